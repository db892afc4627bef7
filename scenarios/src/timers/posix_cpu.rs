//! A timer on the processor time of the process, which a thread spends after the checkpoint.
//!
//! Verified: it expires after the process has run for as long as was left.
//! CRIU: works.

use std::time::{Duration, Instant};

use crate::sys::Ask;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let set = sys::sigset(&[libc::SIGUSR1]);
    sys::block(set);
    let ask = Ask {
        clock: libc::CLOCK_PROCESS_CPUTIME_ID,
        notify: libc::SIGEV_SIGNAL,
        signal: libc::SIGUSR1,
        tid: 0,
        value: 99,
    };
    let id = sys::timer_create(&ask).expect("timer_create");
    sys::timer_start(id, Duration::from_millis(120), Duration::ZERO);

    cx.ready_and_wait();

    let (left, _) = sys::timer_left(id).expect("the timer is there");
    check!(!left.is_zero(), "it has expired while the process slept");
    let began = Instant::now();
    while sys::pending() & set == 0 && began.elapsed() < Duration::from_secs(20) {
        std::hint::spin_loop();
    }
    check!(began.elapsed() + Duration::from_millis(20) >= left, "it expired too early");
    let signal = sys::take_signal(set);
    check_eq!(signal.map(|info| (info.code, info.value)), Some((libc::SI_TIMER, 99)), "signal");
}
