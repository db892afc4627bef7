//! The vDSO: `clock_gettime` without a system call.
//!
//! Verified: it is where it was, its functions are called and agree with the system call, and
//! time goes on.
//! CRIU: works.

use std::time::Duration;

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn by_vdso(clock: i32) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives over the call, which libc makes through the vDSO.
    check_eq!(unsafe { libc::clock_gettime(clock, &raw mut time) }, 0, "clock_gettime");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn by_call(clock: i32) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives over the call.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, &raw mut time) };
    check_eq!(result, 0, "clock_gettime");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Where the kernel said it mapped the vDSO (`AT_SYSINFO_EHDR`), and its first bytes.
fn image() -> (u64, [u8; 4]) {
    // SAFETY: a plain number.
    let at = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    // SAFETY: the vDSO is mapped there, and readable; were it not, the crash would tell.
    (at, unsafe { std::ptr::with_exposed_provenance::<[u8; 4]>(at as usize).read_volatile() })
}

fn run(cx: &mut Context) {
    let clocks = [libc::CLOCK_MONOTONIC, libc::CLOCK_REALTIME, libc::CLOCK_BOOTTIME];
    let before = clocks.map(by_vdso);
    let place = image();
    cx.ready_and_wait();
    check_eq!(image(), place, "the vDSO");
    check_eq!(place.1, *b"\x7fELF", "its first bytes");
    for (clock, before) in clocks.into_iter().zip(before) {
        let (first, middle, last) = (by_call(clock), by_vdso(clock), by_call(clock));
        check!(
            first <= middle && middle <= last,
            "clock {clock}: {middle:?} is not in {first:?}..{last:?}"
        );
        check!(before < first, "clock {clock} went back from {before:?} to {first:?}");
    }
    sys::nap(Duration::from_millis(1));
    check!(by_vdso(libc::CLOCK_MONOTONIC) > before[0], "time stands still");
}
