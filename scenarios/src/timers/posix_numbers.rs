//! Timers whose numbers have gaps, large and small.
//!
//! Verified: every timer has its number, no other is there, and the next one made gets none of
//! theirs.
//! CRIU: makes and deletes timers up to the highest number; works.

use crate::sys::Ask;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const ASK: Ask =
    Ask { clock: libc::CLOCK_MONOTONIC, notify: libc::SIGEV_NONE, signal: 0, tid: 0, value: 0 };
const KEPT: [i32; 5] = [1, 2, 700, 701, 29_999];

fn run(cx: &mut Context) {
    for index in 0..=KEPT[KEPT.len() - 1] {
        let id = sys::timer_create(&ASK).expect("timer_create");
        check_eq!(id, index, "numbers go up by one");
        if !KEPT.contains(&id) {
            sys::timer_delete(id);
        }
    }

    cx.ready_and_wait();

    for id in (0..1_000).chain(29_990..30_010) {
        check_eq!(sys::timer_left(id).is_ok(), KEPT.contains(&id), "whether timer {id} is there");
    }
    let next = sys::timer_create(&ASK).expect("timer_create");
    check!(!KEPT.contains(&next), "number {next} is given a second time");
}
