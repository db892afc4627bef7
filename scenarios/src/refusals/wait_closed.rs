//! A thread that waits in an epoll whose only number another thread has closed.
//!
//! Verified: the dump is refused, naming thread and descriptor; the wait goes on, and is told what comes.
//! CRIU: the wait ends with `EBADF`.

use crate::epoll::watch::{Epoll, IN, event, plant, rouse, wait};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .refused("a call that waits with a file whose number is closed");

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let file = event(0);
    epoll.add(&file, IN, 7);
    plant(&epoll, 42);
    drop(epoll);
    let (thread, tid) = cx.thread(|cx| {
        cx.arrive(sys::gettid());
        wait(42, 1)
    });
    cx.await_blocked(tid, libc::SYS_epoll_wait);
    sys::close(42);
    cx.publish("naming", &format!("{tid}\n"));

    cx.ready_and_wait();

    rouse(&file);
    check_eq!(thread.join().expect("no panic"), Ok(vec![(7, IN)]), "what the wait returns");
}
