//! A thread that waits in an epoll whose number another thread has given to another epoll; the first is
//! there under a second number.
//!
//! Verified: the dump is refused, naming thread and descriptor; the wait goes on in the epoll it began in.
//! CRIU: the wait goes on in the other epoll.

use crate::epoll::watch::{Epoll, IN, at_epoll, event, plant, rouse, wait};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .refused("a call that waits with a file whose number is closed, or another file's");

fn run(cx: &mut Context) {
    let (first, second) = (Epoll::new(), Epoll::new());
    let (file, other) = (event(0), event(0));
    first.add(&file, IN, 1);
    second.add(&other, IN, 2);
    plant(&first, 42);
    let (thread, tid) = cx.thread(|cx| {
        cx.arrive(sys::gettid());
        wait(42, 1)
    });
    cx.await_blocked(tid, libc::SYS_epoll_wait);
    plant(&second, 42);
    cx.publish("naming", &format!("{tid}\n"));

    cx.ready_and_wait();

    rouse(&other);
    sys::nap(std::time::Duration::from_millis(50));
    rouse(&file);
    check_eq!(thread.join().expect("no panic"), Ok(vec![(1, IN)]), "what the wait returns");
    check_eq!(at_epoll(42).take(), [(2, IN)], "what the other epoll has");
}
