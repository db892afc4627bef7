//! Threads of one process that wait in one epoll, each under a number of its own.
//!
//! Verified: who began last is woken first. Not by dumps that are killed, which may leave another order.
//! CRIU: all return `EINTR`.

use super::wait_turns::{Numbers, Turns};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const ORDER: [usize; 4] = [2, 0, 3, 1];

fn run(cx: &mut Context) {
    let turns = Turns::begin(cx, &ORDER, Numbers::Each);

    cx.ready_and_wait();

    turns.end(cx, &ORDER);
}
