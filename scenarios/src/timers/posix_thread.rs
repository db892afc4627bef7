//! A timer that tells one thread (`SIGEV_THREAD_ID`), of several.
//!
//! Verified: it expires after the checkpoint and tells that thread and no other.
//! CRIU: works.

use std::time::Duration;

use crate::sys::Ask;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).differs(&[("*Pnd", "timers expire")]);

const SIGNAL: i32 = libc::SIGUSR2;

fn run(cx: &mut Context) {
    let set = sys::sigset(&[SIGNAL]);
    sys::block(set);
    let mut threads = Vec::new();
    for value in 1..4_usize {
        threads.push(cx.thread(move |cx| {
            let ask = Ask {
                clock: libc::CLOCK_MONOTONIC,
                notify: libc::SIGEV_THREAD_ID,
                signal: SIGNAL,
                tid: sys::gettid(),
                value,
            };
            let id = sys::timer_create(&ask).expect("timer_create");
            let time = Duration::from_millis(70 * value as u64);
            sys::timer_start(id, time, Duration::ZERO);
            cx.arrive(sys::gettid());
            cx.wait_go();
            crate::context::until("the timer", || sys::pending() & set != 0);
            let found = sys::take_signal(set).map(|info| (info.code, info.value));
            check_eq!(found, Some((libc::SI_TIMER, value)), "signal of a timer");
            check_eq!(sys::take_signal(set), None, "one more");
        }));
    }

    cx.ready_and_wait();

    for (thread, _) in threads {
        check!(thread.join().is_ok(), "the thread panicked");
    }
    check_eq!(sys::pending() & set, 0, "what waits for the main thread");
}
