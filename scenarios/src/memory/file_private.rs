//! Private file mappings: unmodified, partly modified, read-only, at an offset.
//!
//! Verified: modified pages keep the process's bytes, others the file's; the file is not
//! changed; a page of the file changed after the checkpoint shows through where the process has no copy.
//! CRIU: works.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

const PAGES: usize = 16;

fn run(cx: &mut Context) {
    let path = cx.path("mapped");
    let bytes: Vec<u8> = (0..PAGES * PAGE).map(|i| (i / PAGE * 16 + i % 13) as u8).collect();
    fs::write(&path, &bytes).expect("write");
    let file = File::options().read(true).write(true).open(&path).expect("open");
    let map = |prot, first: usize| {
        let from = Some((file.as_fd(), (first * PAGE) as i64));
        Area::map((PAGES - first) * PAGE, prot, libc::MAP_PRIVATE, from)
    };
    let clean = map(libc::PROT_READ | libc::PROT_WRITE, 0);
    let modified = map(libc::PROT_READ | libc::PROT_WRITE, 0);
    let read_only = map(libc::PROT_READ, 4);
    for page in [0, 3, 4, 15] {
        modified.pages(page, 1).fill(page as u64);
    }

    cx.ready_and_wait();

    let of_file = |area: Area, first: usize, page: usize, what: &str| {
        let expected = &bytes[(first + page) * PAGE..][..PAGE];
        check!(
            area.pages(page, 1).bytes() == expected,
            "page {page} of the {what} mapping is not the file's"
        );
    };
    for page in 0..PAGES {
        of_file(clean, 0, page, "clean");
        if [0, 3, 4, 15].contains(&page) {
            modified.pages(page, 1).verify(page as u64, "modified page");
        } else {
            of_file(modified, 0, page, "modified");
        }
    }
    (0..PAGES - 4).for_each(|page| of_file(read_only, 4, page, "read-only"));
    check!(fs::read(&path).expect("read") == bytes, "the file was changed");
    file.write_all_at(&[0xee; 8], (7 * PAGE) as u64).expect("write");
    check_eq!(
        read_only.read(3 * PAGE),
        0xeeee_eeee_eeee_eeee,
        "the file's new bytes in a page not copied"
    );
    file.write_all_at(&[0xdd; 8], (3 * PAGE) as u64).expect("write");
    modified.pages(3, 1).verify(3, "modified page, after the file changed");
}
