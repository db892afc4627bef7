//! Reserved huge pages: anonymous, with only some pages touched; two mappings side by side; one
//! that has become read-only; a memfd of them, mapped in both ways.
//!
//! Verified: contents, and that all is made of huge pages still; that untouched pages are zeros;
//! that writing through one mapping of the memfd shows in the other.
//! CRIU: works.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).missing(missing);

/// Bytes of a huge page.
pub(crate) const HUGE: usize = 2 << 20;
/// As many as all that runs at a time may take.
const ENOUGH: u64 = 48;
const NUMBER: &str = "/proc/sys/vm/nr_hugepages";

/// Sees to it that there are enough huge pages.
pub(crate) fn missing() -> Option<String> {
    if !Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
        return Some("there are no huge pages of 2 MiB".into());
    }
    let number = || fs::read_to_string(NUMBER).ok()?.trim().parse::<u64>().ok();
    if number()? < ENOUGH {
        // Who may not do that finds out below.
        let _ = fs::write(NUMBER, ENOUGH.to_string());
    }
    (number()? < ENOUGH).then(|| format!("{NUMBER} is below {ENOUGH}"))
}

/// A mapping of huge pages.
pub(crate) fn anonymous(pages: usize, flags: i32) -> Area {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    Area::map(pages * HUGE, prot, flags | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB, None)
}

/// How many mappings of this process are made of huge pages.
fn count() -> usize {
    let smaps = fs::read_to_string("/proc/self/smaps").expect("smaps");
    smaps
        .lines()
        .filter(|line| line.starts_with("KernelPageSize:") && line.contains(" 2048 kB"))
        .count()
}

fn run(cx: &mut Context) {
    let private = anonymous(3, libc::MAP_PRIVATE | libc::MAP_NORESERVE);
    private.pages(HUGE / PAGE, HUGE / PAGE).fill(1);
    let fixed = anonymous(1, libc::MAP_PRIVATE);
    fixed.fill(2);
    fixed.protect(libc::PROT_READ);
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let (shared, copy) = {
        let flags = MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB | MemfdFlags::CLOEXEC;
        let file = memfd_create("huge", flags).expect("memfd_create");
        ftruncate(&file, 2 * HUGE as u64).expect("ftruncate");
        let map = |flags| Area::map(2 * HUGE, prot, flags, Some((file.as_fd(), 0)));
        (map(libc::MAP_SHARED), map(libc::MAP_PRIVATE | libc::MAP_NORESERVE))
    };
    shared.fill(3);
    copy.pages(0, HUGE / PAGE).fill(4);
    let before = count();

    cx.ready_and_wait();

    check_eq!(count(), before, "mappings of huge pages");
    private.pages(HUGE / PAGE, HUGE / PAGE).verify(1, "private huge page");
    private.pages(0, HUGE / PAGE).verify_zero("untouched huge page");
    fixed.verify(2, "read-only huge page");
    shared.verify(3, "shared huge pages");
    copy.pages(0, HUGE / PAGE).verify(4, "huge page modified privately");
    shared.write(HUGE, 7);
    check_eq!(copy.read(HUGE), 7, "what was written to the other mapping");
}
