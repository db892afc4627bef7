//! `select` without end, for reading and for exceptions.
//!
//! Verified: it stays blocked until there is a byte, and then returns 1 with that bit; blocked signals are as before.
//! CRIU: works.

use std::os::fd::AsRawFd;

use rustix::io::write;
use rustix::pipe::pipe;

use super::blocking::{outcome, until_woken};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (reader, writer) = pipe().expect("pipe");
    let fd = reader.as_raw_fd();
    let wait = move || {
        let mut sets = [[0u64; 16]; 2];
        sets.iter_mut().for_each(|set| set[fd as usize / 64] = 1 << (fd % 64));
        let [read, except] = &mut sets;
        // SAFETY: sets of 1024 bits, which live over the call.
        let result = unsafe {
            libc::syscall(libc::SYS_select, fd + 1, read.as_mut_ptr(), 0, except.as_mut_ptr(), 0)
        };
        (outcome(result), sets.map(|set| set[fd as usize / 64]))
    };
    until_woken(cx, libc::SYS_select, &(Ok(1), [1 << (fd % 64), 0]), wait, |_| {
        check_eq!(write(&writer, b"x"), Ok(1), "write");
    });
}
