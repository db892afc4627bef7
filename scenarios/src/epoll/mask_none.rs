//! Items that ask for nothing, with and without flags: hang-ups and errors are reported all the same.
//!
//! Verified: nothing is reported of ready files, and the hang-up is, by each in its manner.
//! CRIU: works.

use super::watch::{EDGE, Epoll, HUP, IN, NOTHING, ONCE, at, plant};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let (reader, writer) = rustix::pipe::pipe().expect("pipe");
    for (number, mask) in [(50, 0), (51, EDGE), (52, ONCE)] {
        plant(&reader, number);
        epoll.add(at(number), mask, number as u64);
    }
    check_eq!(rustix::io::write(&writer, b"x"), Ok(1), "writing");

    cx.ready_and_wait();

    check_eq!(epoll.take(), NOTHING, "of a ready file");
    drop(writer);
    check_eq!(epoll.take(), [(52, HUP), (51, HUP), (50, HUP)], "of one that hung up");
    check_eq!(epoll.take(), [(50, HUP)], "the same again");
    check_eq!(epoll.modify(at(52), IN | ONCE, 1), Ok(()), "arming");
    check_eq!(epoll.take(), [(50, HUP), (1, IN | HUP)], "after that");
}
