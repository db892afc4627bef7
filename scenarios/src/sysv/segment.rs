//! A System V shared memory segment with a key, which outlives the program.
//!
//! Verified: contents, number, key, owner, permissions, that it is attached once, and that it can be
//! detached and attached again.
//! CRIU: refuses (only in an IPC namespace of the tree's own).

use super::{Segment, detach};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

const LEN: usize = 5 * 4096 + 8;

fn run(cx: &mut Context) {
    let segment = Segment::make(Segment::key(0), LEN, 0o640);
    let area = segment.attach(0);
    area.fill(1);
    let before = segment.description();

    cx.ready_and_wait();

    area.verify(1, "the segment");
    check_eq!(segment.description(), before, "key, owner, creator, mode, size");
    check_eq!(segment.attached(), 1, "times attached");
    area.write(8, 5);
    check!(detach(area).is_ok(), "shmdt");
    check_eq!(segment.attached(), 0, "times attached after shmdt");
    let again = segment.attach(0);
    check_eq!(again.read(8), 5, "what was written before shmdt");
    segment.remove();
}
