//! Shared anonymous memory that is open as a file, through `map_files`, and mapped again.
//!
//! Verified: one mapping shows what is written through the other or the descriptor, a private one
//! only where it was not written to.
//! CRIU: works, with a memfd for what was /dev/zero in `maps`.

use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario, Users};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).differs(&[
        ("*/map/*", "it comes back as a memfd, which has a name of its own"),
        ("*/fd/*/link", "likewise"),
    ]);

fn run(cx: &mut Context) {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let first = Area::map(4 * PAGE, prot, libc::MAP_SHARED | libc::MAP_ANONYMOUS, None);
    first.fill(1);
    let path = format!("/proc/self/map_files/{:x}-{:x}", first.start(), first.end());
    let file = OpenOptions::new().read(true).write(true).open(path).expect("map_files");
    let second = Area::map(4 * PAGE, prot, libc::MAP_SHARED, Some((file.as_fd(), 0)));
    let private = Area::map(4 * PAGE, prot, libc::MAP_PRIVATE, Some((file.as_fd(), 0)));
    private.pages(1, 1).fill(2);

    cx.ready_and_wait();

    private.pages(1, 1).verify(2, "page modified privately");
    first.verify(1, "first mapping");
    first.pages(2, 1).fill(3);
    second.pages(2, 1).verify(3, "second mapping, written through the first");
    private.pages(2, 1).verify(3, "private mapping, written through the first");
    let mut bytes = vec![0; PAGE];
    file.read_exact_at(&mut bytes, 2 * PAGE as u64).expect("pread");
    check!(bytes == first.pages(2, 1).bytes(), "the descriptor leads to something else");
}
