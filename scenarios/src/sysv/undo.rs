//! Semaphores on which processes have operated with `SEM_UNDO`.
//!
//! Verified: the values, that a lock which is held stays held, and which values there are when each
//! process has ended; also one whose operations its thread has made.
//! CRIU: loses what is to be undone.

use super::Semaphores;
use crate::context::until;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

/// Lives until the values have been looked at.
pub(super) fn await_look(cx: &Context) {
    cx.wait_go();
    let looked = cx.path("looked");
    until("the look at the values", || looked.exists());
}

fn run(cx: &mut Context) {
    let semaphores = Semaphores::make(&[1, 20, 30, 7]);
    let holder = cx.fork(|cx| {
        semaphores.operate(&[(0, -1), (1, -15)]);
        semaphores.operate(&[(2, 4)]);
        // What adds up to nothing.
        semaphores.operate(&[(3, -2)]);
        semaphores.operate(&[(3, 2)]);
        cx.arrive(sys::own_pid());
        await_look(cx);
    });
    let threaded = cx.fork(|cx| {
        let (thread, _) = cx.thread(move |cx| {
            semaphores.operate(&[(1, -3), (3, 1)]);
            cx.arrive(sys::gettid());
        });
        thread.join().expect("the thread does not panic");
        cx.arrive(sys::own_pid());
        await_look(cx);
    });
    for pid in [holder, threaded] {
        cx.await_arrival(pid);
    }
    let before = semaphores.values();
    cx.ready_and_wait();
    check_eq!(semaphores.values(), before, "values while all of them live");
    cx.publish("looked", "");
    cx.reap(holder);
    cx.reap(threaded);
    check_eq!(before, [0, 2, 34, 8], "values before");
    check_eq!(semaphores.values(), [1, 20, 30, 7], "values when all is undone");
    semaphores.remove();
}
