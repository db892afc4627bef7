//! Pieces of a System V shared memory segment: a hole unmapped, the end moved, a part made
//! read-only, and another place that was attached with `SHM_RDONLY`.
//!
//! Verified: contents at each place, that each reaches the same memory, that the place attached
//! read-only cannot be made writable, and that `shmdt` takes away what is left of an attachment.
//! CRIU: refuses (only in an IPC namespace of the tree's own).

use super::{Segment, detach};
use crate::sys::{Area, PAGE};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let segment = Segment::make(libc::IPC_PRIVATE, 8 * PAGE, 0o600);
    let area = segment.attach(0);
    let read_only = segment.attach(libc::SHM_RDONLY);
    segment.remove();
    area.fill(1);
    area.pages(2, 1).unmap();
    area.pages(1, 1).protect(libc::PROT_READ);
    let place = Area::anonymous(2 * PAGE);
    let moved = area.pages(6, 2).relocate(place);
    let places = segment.attached();

    cx.ready_and_wait();

    read_only.verify(1, "the whole segment");
    let same = |piece: Area, page: usize, what: &str| {
        let whole = read_only.pages(page, piece.len() / PAGE);
        check!(piece.bytes() == whole.bytes(), "{what} differs");
    };
    same(area.pages(0, 2), 0, "the first piece");
    same(area.pages(3, 3), 3, "the piece behind the hole");
    same(moved, 6, "the piece that was moved");
    check_eq!(segment.attached(), places, "mappings of the segment");
    moved.write(PAGE, 7);
    check_eq!(read_only.read(7 * PAGE), 7, "what was written through the moved piece");
    check!(
        !read_only.try_protect(libc::PROT_READ | libc::PROT_WRITE),
        "SHM_RDONLY became writable"
    );
    check!(detach(area).is_ok(), "shmdt of what is left");
    check!(detach(area).is_err(), "shmdt found more");
}
