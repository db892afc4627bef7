//! `pselect6` without end.
//!
//! Verified: it stays blocked until there is a byte, and then returns 1; blocked signals are as before.
//! CRIU: works.

use std::os::fd::AsRawFd;

use rustix::io::write;
use rustix::pipe::pipe;

use super::blocking::{outcome, until_woken};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (reader, writer) = pipe().expect("pipe");
    let fd = reader.as_raw_fd();
    let wait = move || {
        let mut set = [0u64; 16];
        set[fd as usize / 64] = 1 << (fd % 64);
        let mask = sys::sigset(&[libc::SIGUSR1, 40]);
        let sized = [(&raw const mask).addr(), 8];
        // SAFETY: a set of 1024 bits, a mask of eight bytes; all live over the call.
        outcome(unsafe {
            libc::syscall(libc::SYS_pselect6, fd + 1, set.as_mut_ptr(), 0, 0, 0, &raw const sized)
        })
    };
    until_woken(cx, libc::SYS_pselect6, &Ok(1), wait, |_| {
        check_eq!(write(&writer, b"x"), Ok(1), "write");
    });
}
