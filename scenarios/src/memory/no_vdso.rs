//! A program that has unmapped its vDSO, as some sandboxes do.
//!
//! Verified: it runs, and has none afterwards either.
//! CRIU: works.

use std::fs;

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

/// The parts of the vDSO in this process, as `maps` has them.
fn parts() -> Vec<(usize, usize)> {
    let maps = fs::read_to_string("/proc/self/maps").expect("it can be read");
    let is_part = |line: &&str| line.ends_with("[vdso]") || line.contains("[vvar");
    let range = |line: &str| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        let number = |digits| usize::from_str_radix(digits, 16).ok();
        number(start).zip(number(end))
    };
    maps.lines().filter(is_part).filter_map(range).collect()
}

fn run(cx: &mut Context) {
    let found = parts();
    check!(found.len() >= 2, "parts of the vDSO: {found:x?}");
    for (start, end) in found {
        let at = std::ptr::with_exposed_provenance_mut(start);
        // SAFETY: from here on, nothing in this process asks for the time.
        check_eq!(unsafe { libc::munmap(at, end - start) }, 0, "munmap");
    }
    check_eq!(parts(), [], "unmapped");
    cx.ready_and_wait();
    check_eq!(parts(), [], "the vDSO");
}
