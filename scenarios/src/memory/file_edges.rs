//! File mappings at the edges: a hole in the file, pages beyond its end, the rest of its last page.
//!
//! Verified: holes are zero and stay holes; what lies beyond the end still raises SIGBUS, and can
//! be used once the file has grown.
//! CRIU: works.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn bus_error(cx: &Context, area: Area) -> bool {
    let child = cx.fork(|_| {
        // SAFETY: plain numbers; the runtime's handler would print.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
        area.read(0);
    });
    sys::wait_siginfo(child, libc::WEXITED).ok().is_some_and(|(_, status)| status == libc::SIGBUS)
}

fn run(cx: &mut Context) {
    let open = |name: &str| {
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(cx.path(name))
            .expect("open")
    };
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let holed = open("holed");
    holed.set_len(1 << 20).expect("ftruncate");
    holed.write_all_at(&[5; 8], 512 << 10).expect("write");
    let hole = Area::map(1 << 20, prot, libc::MAP_SHARED, Some((holed.as_fd(), 0)));
    let private_hole = Area::map(1 << 20, prot, libc::MAP_PRIVATE, Some((holed.as_fd(), 0)));
    private_hole.write(64 << 10, 6);
    let blocks = holed.metadata().expect("fstat").blocks();

    let short = open("short");
    short.write_all_at(&[9; 100], 0).expect("write");
    let beyond = Area::map(8 * PAGE, prot, libc::MAP_SHARED, Some((short.as_fd(), 0)));
    let private_beyond = Area::map(8 * PAGE, prot, libc::MAP_PRIVATE, Some((short.as_fd(), 0)));
    private_beyond.write(104, 3);

    cx.ready_and_wait();

    check_eq!(hole.read(512 << 10), 0x0505_0505_0505_0505, "the word in the file");
    hole.pages(0, 16).verify_zero("the hole");
    check_eq!(private_hole.read(64 << 10), 6, "a word written privately over the hole");
    check_eq!(holed.metadata().map(|m| m.blocks()).ok(), Some(blocks), "blocks of the file");
    check_eq!(beyond.read(0), 0x0909_0909_0909_0909, "the short file");
    check_eq!(
        private_beyond.read(104),
        3,
        "a word behind the end, in the last page, written privately"
    );
    check!(bus_error(cx, beyond.pages(1, 1)), "no SIGBUS beyond the end, shared");
    check!(bus_error(cx, private_beyond.pages(3, 1)), "no SIGBUS beyond the end, private");
    short.set_len(8 * PAGE as u64).expect("ftruncate");
    beyond.write(7 * PAGE, 1);
    check_eq!(private_beyond.read(7 * PAGE), 1, "the grown file");
}
