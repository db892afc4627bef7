//! What the kernel remembers of a program's layout: code, data, heap, stack, arguments, environment,
//! auxiliary vector; with the arguments overwritten and moved, as `setproctitle` does.
//!
//! Verified: `cmdline` and `comm` as others see them; the rest is in `stat` and `auxv`, which the
//! harness compares.
//! CRIU: works.

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const TITLE: &[u8] =
    b"scenario: a title longer than anything it was started with, kept in memory of its own\0";

/// `struct prctl_mm_map` (`include/uapi/linux/prctl.h`).
#[repr(C)]
struct MmMap {
    fields: [u64; 11],
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

/// The fields of `/proc/self/stat` from the third on.
fn stat() -> Vec<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("own stat");
    let rest = stat.rsplit_once(')').map_or("", |(_, r)| r);
    rest.split_whitespace().map(|w| w.parse().unwrap_or(0)).collect()
}

fn run(cx: &mut Context) {
    let area = Area::anonymous(PAGE);
    area.put(TITLE);
    let stat = stat();
    let field = |number: usize| stat[number - 3];
    // SAFETY: zero asks for the current break.
    let brk = unsafe { libc::syscall(libc::SYS_brk, 0) } as u64;
    let title = (area.start() as u64, (area.start() + TITLE.len()) as u64);
    let map = MmMap {
        fields: [
            field(26),
            field(27),
            field(45),
            field(46),
            field(47),
            brk,
            field(28),
            title.0,
            title.1,
            field(50),
            field(51),
        ],
        auxv: 0,
        auxv_size: 0,
        exe_fd: u32::MAX,
    };
    // Setting all at once takes no capability, unlike setting one.
    // SAFETY: `map` lives over the call, and has all addresses as they are but the arguments'.
    let set = unsafe {
        libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, &raw const map, size_of::<MmMap>(), 0)
    };
    check_eq!(set, 0, "PR_SET_MM_MAP");

    cx.ready_and_wait();

    let cmdline = std::fs::read("/proc/self/cmdline").expect("own cmdline");
    check_eq!(String::from_utf8_lossy(&cmdline), String::from_utf8_lossy(TITLE), "cmdline");
}
