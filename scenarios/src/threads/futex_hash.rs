//! The number of slots of a process's own table of futexes.
//!
//! Verified: of a process with two threads that has asked for more than the kernel gives, of one that
//! has asked for the table of all processes, of one whose threads have ended, and that a mutex still
//! wakes who waits for it.
//! CRIU: loses it.

use std::sync::{Arc, Mutex};

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).missing(|| {
    let known = slots(GET_SLOTS, 0) >= 0;
    (!known).then(|| "the kernel has one table of futexes for all".into())
});

const PR_FUTEX_HASH: i32 = 78;
const SET_SLOTS: u64 = 1;
const GET_SLOTS: u64 = 2;

fn slots(what: u64, number: u64) -> i32 {
    // SAFETY: plain numbers.
    unsafe { libc::prctl(PR_FUTEX_HASH, what, number, 0_u64, 0_u64) }
}

fn run(cx: &mut Context) {
    let single = cx.fork(|cx| {
        check!(std::thread::spawn(|| ()).join().is_ok(), "the thread panicked");
        let before = slots(GET_SLOTS, 0);
        cx.arrive(sys::own_pid());
        cx.wait_go();
        check_eq!(slots(GET_SLOTS, 0), before, "slots after a thread has ended");
    });
    let global = cx.fork(|cx| {
        let (thread, _) = cx.thread(|cx| {
            cx.arrive(sys::gettid());
            crate::context::until_forever(|| cx.gone());
        });
        check_eq!(slots(SET_SLOTS, 0), 0, "asking for the table of all");
        cx.arrive(sys::own_pid());
        cx.wait_go();
        check_eq!(slots(GET_SLOTS, 0), 0, "slots of who has none of its own");
        check!(thread.join().is_ok(), "the thread panicked");
    });
    for child in [single, global] {
        cx.await_arrival(child);
    }
    let mutex = Arc::new(Mutex::new(()));
    let held = mutex.lock().expect("nobody panics");
    let (thread, _) = cx.thread({
        let mutex = Arc::clone(&mutex);
        move |cx| {
            cx.arrive(sys::gettid());
            drop(mutex.lock().expect("nobody panics"));
        }
    });
    check_eq!(slots(SET_SLOTS, 256), 0, "asking for slots");
    cx.ready_and_wait();
    check_eq!(slots(GET_SLOTS, 0), 256, "slots that were asked for");
    drop(held);
    check!(thread.join().is_ok(), "the thread panicked");
    for child in [single, global] {
        cx.reap(child);
    }
}
