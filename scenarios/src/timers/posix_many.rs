//! Two thousand timers.
//!
//! Verified: each is there with its time.
//! CRIU: works.

use std::time::Duration;

use crate::sys::{Ask, Expected};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let mut timers = Vec::with_capacity(2_000);
    for index in 0..2_000 {
        let (notify, signal) = (libc::SIGEV_SIGNAL, libc::SIGUSR1);
        let ask = Ask { clock: libc::CLOCK_MONOTONIC, notify, signal, tid: 0, value: index };
        let id = sys::timer_create(&ask).expect("timer_create");
        let left = Duration::from_secs(100 + index as u64);
        sys::timer_start(id, left, Duration::ZERO);
        timers.push((id, Expected::now(left)));
    }

    cx.ready_and_wait();

    for (id, expected) in timers {
        match sys::timer_left(id) {
            Ok((left, _)) => check!(expected.allows(left), "timer {id} has {left:?} left"),
            Err(error) => check!(false, "timer {id}: {error}"),
        }
    }
}
