//! Blocked signals, different in every thread.
//!
//! Verified: all 64 bits of every mask.
//! CRIU: works.

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// What cannot be blocked, and what libc keeps for itself (32 and 33).
const NEVER: [i32; 4] = [libc::SIGKILL, libc::SIGSTOP, 32, 33];

fn mask(number: u64) -> u64 {
    0x9e37_79b9_7f4a_7c15u64.wrapping_mul(number + 1) & !sys::sigset(&NEVER)
}

fn run(cx: &mut Context) {
    let threads: Vec<_> = (1..6)
        .map(|number| {
            cx.thread(move |cx| {
                sys::block(mask(number));
                cx.arrive(sys::gettid());
                cx.wait_go();
                check_eq!(sys::blocked(), mask(number), "mask of thread {number}");
            })
        })
        .collect();
    sys::block(mask(0));
    cx.ready_and_wait();
    check_eq!(sys::blocked(), mask(0), "mask of the main thread");
    for (thread, _) in threads {
        check!(thread.join().is_ok(), "a thread panicked");
    }
}
