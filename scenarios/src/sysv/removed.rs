//! A System V shared memory segment that is marked for removal (`IPC_RMID`) and lives as long as
//! somebody has it attached, with one that was private from the start and with one attached twice.
//!
//! Verified: contents, number, mode with `SHM_DEST`, and that it goes with the last `shmdt`.
//! CRIU: refuses (only in an IPC namespace of the tree's own).

use super::{Segment, detach};
use crate::sys::PAGE;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn run(cx: &mut Context) {
    let segments = [
        Segment::make(Segment::key(1), 3 * PAGE, 0o600),
        Segment::make(libc::IPC_PRIVATE, 2 * PAGE, 0o622),
    ];
    let areas = segments.map(|segment| segment.attach(0));
    let again = segments[0].attach(0);
    segments.iter().for_each(|segment| segment.remove());
    areas.iter().zip(1..).for_each(|(area, seed)| area.fill(seed));
    let before = segments.map(Segment::description);
    check_eq!(before[0][5], 0o1600, "mode with SHM_DEST");

    cx.ready_and_wait();

    areas.iter().zip(1..).for_each(|(area, seed)| area.verify(seed, "a removed segment"));
    check_eq!(segments.map(Segment::description), before, "key, owner, creator, mode, size");
    check_eq!(segments.map(Segment::attached), [2, 1], "times attached");
    areas[0].write(PAGE, 9);
    check_eq!(again.read(PAGE), 9, "what was written at the other place");
    check!(detach(again).is_ok(), "shmdt of the second place");
    for (area, segment) in areas.into_iter().zip(segments) {
        check!(detach(area).is_ok(), "shmdt");
        check!(segment.stat().is_err(), "a removed segment outlives the last shmdt");
    }
}
