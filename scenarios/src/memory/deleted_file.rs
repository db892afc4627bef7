//! Mappings of a file that has been deleted: shared and private, modified.
//!
//! Verified: contents; that the two mappings are still of one file.
//! CRIU: works.

use std::fs::{self, File};
use std::os::fd::AsFd;

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let path = cx.path("deleted");
    fs::write(&path, vec![7; 8 * PAGE]).expect("write");
    let file = File::options().read(true).write(true).open(&path).expect("open");
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let shared = Area::map(8 * PAGE, prot, libc::MAP_SHARED, Some((file.as_fd(), 0)));
    let again = Area::map(8 * PAGE, prot, libc::MAP_SHARED, Some((file.as_fd(), 0)));
    let private = Area::map(8 * PAGE, prot, libc::MAP_PRIVATE, Some((file.as_fd(), 0)));
    shared.pages(1, 1).fill(1);
    private.pages(2, 1).fill(2);
    fs::remove_file(&path).expect("unlink");
    drop(file);

    cx.ready_and_wait();

    shared.pages(1, 1).verify(1, "the shared mapping");
    private.pages(2, 1).verify(2, "the private mapping");
    check_eq!(private.read(3 * PAGE), 0x0707_0707_0707_0707, "an unmodified page");
    shared.write(5 * PAGE, 99);
    check_eq!(again.read(5 * PAGE), 99, "what was written, by the other mapping");
    check!(!path.exists(), "the deleted file has its name again");
}
