//! `select` on a pipe that stays empty, with a timeout. The kernel writes the remaining time back.
//!
//! Verified: it returns 0, with no time remaining and no bit set, no earlier than asked and not as if begun anew.
//! CRIU: works, waiting for the time remaining.

use std::os::fd::AsRawFd;

use rustix::pipe::pipe;

use super::blocking::{WAIT, for_a_time, outcome};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (reader, _writer) = pipe().expect("pipe");
    for_a_time(cx, libc::SYS_select, &(Ok(0), (0, 0), 0), move || {
        let fd = reader.as_raw_fd();
        let mut set = [0u64; 16];
        set[fd as usize / 64] = 1 << (fd % 64);
        let mut time =
            libc::timeval { tv_sec: WAIT.as_secs() as i64, tv_usec: WAIT.subsec_micros().into() };
        // SAFETY: the set has 1024 bits, and lives over the call with the time.
        let result = unsafe {
            libc::syscall(libc::SYS_select, fd + 1, set.as_mut_ptr(), 0, 0, &raw mut time)
        };
        (outcome(result), (time.tv_sec, time.tv_usec), set.iter().sum::<u64>())
    });
}
