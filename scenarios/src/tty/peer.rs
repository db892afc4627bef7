//! Slaves that were opened through their master (`TIOCGPTPEER`), as `openpty(3)` does: these lack
//! O_LARGEFILE, which the kernel gives to what 64-bit programs open by a path.
//!
//! Verified: flags and path of each, and that a line passes.
//! CRIU: opens all by their path.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl};

use super::{awaited, ioctl, pseudo_terminal, slave, write};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const TIOCGPTPEER: libc::c_ulong = 0x5441;

fn peer(master: impl AsFd, flags: OFlags) -> OwnedFd {
    let flags = flags | OFlags::NOCTTY;
    let fd = ioctl(master, TIOCGPTPEER, flags.bits() as usize).expect("TIOCGPTPEER");
    // SAFETY: the kernel has just given this descriptor to this call alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn run(cx: &mut Context) {
    let (master, path) = pseudo_terminal();
    let (other_master, _) = pseudo_terminal();
    let files = [
        peer(&master, OFlags::RDWR),
        peer(&master, OFlags::WRONLY | OFlags::NONBLOCK),
        peer(&master, OFlags::RDWR | OFlags::LARGEFILE),
        slave(&path),
        // Alone.
        peer(&other_master, OFlags::RDWR),
        master,
        other_master,
    ];
    let seen = || {
        let flags = files.each_ref().map(|file| fcntl_getfl(file).expect("F_GETFL"));
        let names = files.each_ref().map(|file| {
            std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("readlink")
        });
        (flags, names)
    };
    let before = seen();
    let large = before.0.map(|flags| flags.contains(OFlags::LARGEFILE));
    check_eq!(large, [false, false, true, true, false, true, true], "O_LARGEFILE");

    cx.ready_and_wait();

    check_eq!(seen(), before, "flags and paths");
    check_eq!(write(&files[0], "printed\n"), Ok(8), "printing");
    check_eq!(awaited(&files[5], "printed\r\n"), "printed\r\n", "what was printed");
}
