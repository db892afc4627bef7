//! Five epolls, each watching the next, which is as deep as the kernel lets them be.
//!
//! Verified: an event goes through all, a sixth level is refused, and the innermost is drained for all.
//! CRIU: works.

use rustix::io::Errno;

use super::watch::{Epoll, IN, NOTHING, calm, event, rouse};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let file = event(0);
    let mut all = vec![Epoll::new()];
    all[0].add(&file, IN, 0);
    for level in 1..5 {
        let outer = Epoll::new();
        outer.add(&all[level - 1], IN, level as u64);
        all.push(outer);
    }

    cx.ready_and_wait();

    check_eq!(all[4].take(), NOTHING, "the outermost before the event");
    rouse(&file);
    for (level, epoll) in all.iter().enumerate().rev() {
        check_eq!(epoll.take(), [(level as u64, IN)], "level {level}");
    }
    calm(&file);
    check_eq!(all[4].take(), NOTHING, "the outermost, with nothing to report below");
    let sixth = Epoll::new();
    let flags = rustix::event::epoll::EventFlags::IN;
    let data = rustix::event::epoll::EventData::new_u64(6);
    check_eq!(
        rustix::event::epoll::add(&sixth, &all[4], data, flags),
        Err(Errno::LOOP),
        "a sixth level"
    );
}
