//! Items on signalfds that were added by a child which is a zombie: one that it has woken, one that was looked
//! at, and one that has fired.
//!
//! Verified: what was woken reports the signals of who looks, what was looked at does when the zombie is
//! reaped, as its end is told then, and what has fired does not.
//! CRIU: makes all wait for the signals of a process that has the epoll.

use super::watch::{EDGE, Epoll, IN, NOTHING, ONCE, signalfd, take_signal};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let [woken, looked] = [Epoll::new(), Epoll::new()];
    let own = std::process::id() as i32;
    let file = signalfd(libc::SIGUSR1);
    let zombie = cx.fork(|_| {
        let own = std::process::id() as i32;
        looked.add(&file, IN | EDGE, 1);
        sys::kill(own, libc::SIGUSR1);
        check_eq!(looked.take(), [(1, IN)], "the child's signal");
        woken.add(&file, IN | EDGE, 2);
        let again = rustix::io::dup(&file).expect("dup");
        woken.add(&again, IN | ONCE, 3);
        check_eq!(woken.take_some(2), [(2, IN), (3, IN)], "the others");
        check_eq!(woken.modify(&file, IN | EDGE, 4), Ok(()), "waking it");
    });
    cx.await_state(zombie, 'Z');
    sys::kill(own, libc::SIGUSR1);

    cx.ready_and_wait();

    check_eq!(woken.take(), [(4, IN)], "the one that was woken");
    check_eq!(woken.take(), NOTHING, "it again");
    check_eq!(looked.take(), NOTHING, "the one that was looked at");
    cx.reap(zombie);
    check_eq!(looked.take(), [(1, IN)], "when the zombie is reaped");
    check_eq!(woken.take(), [(4, IN)], "the other edge, and not what has fired");
    take_signal(&file);
    sys::kill(own, libc::SIGUSR1);
    check_eq!([woken.take(), looked.take()], [vec![], vec![]], "signals for nobody's items");
    take_signal(&file);
}
