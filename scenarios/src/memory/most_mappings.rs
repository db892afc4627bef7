//! As many mappings as there may be (`vm.max_map_count`), but for the few that a dump takes.
//!
//! Verified: contents of each, and how many they are.
//! CRIU: works.

use std::fs;

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// How many the process has; not those of the kernel (`vsyscall`).
fn count() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").expect("own maps");
    maps.lines().filter(|line| !line.ends_with("[vsyscall]")).count()
}

/// Makes mappings until there are `left` or one more that could be made: each page of what it returns
/// is one, and has its number in it.
pub(crate) fn make(left: usize) -> Area {
    let limit = fs::read_to_string("/proc/sys/vm/max_map_count").expect("a limit");
    let limit: usize = limit.trim().parse().expect("a number");
    // Every second page that is protected splits what is left in three.
    let pairs = (limit - left - count() - 1) / 2;
    let area = Area::anonymous((2 * pairs + 1) * PAGE);
    for page in 0..=2 * pairs {
        area.write(page * PAGE, page as u64);
        if page % 2 == 1 {
            area.pages(page, 1).protect(libc::PROT_READ);
        }
    }
    area
}

fn run(cx: &mut Context) {
    let area = make(10);
    let before = count();

    cx.ready_and_wait();

    check_eq!(count(), before, "mappings");
    let wrong = (0..area.len() / PAGE).find(|&page| area.read(page * PAGE) != page as u64);
    check_eq!(wrong, None, "the first page that differs");
}
