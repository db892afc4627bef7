//! Shared anonymous memory, between parent and child, and mapped in part by one of them.
//!
//! Verified: all contents; what one writes the other sees, both ways, after the checkpoint.
//! CRIU: works, with a memfd for what was /dev/zero in `maps`.

use std::fs::File;
use std::os::fd::AsFd;

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

const PAGES: usize = 64;

fn run(cx: &mut Context) {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let area = Area::map(PAGES * PAGE, prot, libc::MAP_SHARED, None);
    area.pages(0, 32).fill(1);
    let zero = File::options().read(true).write(true).open("/dev/zero").expect("open");
    let device = Area::map(4 * PAGE, prot, libc::MAP_SHARED, Some((zero.as_fd(), 0)));
    device.fill(2);
    let child = cx.fork(|cx| {
        area.pages(40, 24).unmap();
        cx.arrive(sys::gettid());
        cx.wait_go();
        area.pages(0, 32).verify(1, "the child's view");
        area.pages(32, 8).verify_zero("the untouched part, for the child");
        device.verify(2, "the child's view of /dev/zero");
        area.write(0, 77);
        device.write(0, 78);
        area.write(39 * PAGE, 79);
    });
    cx.await_arrival(child);

    cx.ready_and_wait();

    cx.reap(child);
    check_eq!(
        [area.read(0), device.read(0), area.read(39 * PAGE)],
        [77, 78, 79],
        "what the child wrote"
    );
    area.pages(40, 24).verify_zero("the part the child has not");
    area.pages(1, 1).write(0, 5);
    let later = cx.fork(|_| check_eq!(area.read(PAGE), 5, "a page in a child forked later"));
    cx.reap(later);
}
