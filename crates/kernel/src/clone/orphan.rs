//! A task that is nobody's child from the start.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use rustix::process::{Pid, WaitOptions, getpid, waitpid};

use super::{CloneArgs, CloneFlags, Error, bare_child, own_thread, set_mask};
use crate::signal::SigSet;
use crate::sys::check;
use crate::{Errno, HostPid, NsPid};

/// Makes a task like that of [`spawn_bare`](super::spawn_bare), which is no
/// child of this process: who made it has ended by now, so it is a child of
/// whoever looks after orphans (`PR_SET_CHILD_SUBREAPER`, or init). It has the
/// number `pid`, tells its end with SIGCHLD, and ends when the calling thread
/// does, unless it is taken over.
///
/// # Errors
///
/// See [`Error`].
pub fn spawn_orphan(pid: NsPid) -> Result<HostPid, Error> {
    let maker = own_thread()?;
    let maker_fd = maker.as_fd().as_raw_fd();
    let numbers = [pid.as_raw()];
    let flags = CloneFlags::CLEAR_SIGHAND;
    let child = CloneArgs {
        flags: flags.bits(),
        exit_signal: libc::SIGCHLD as u64,
        set_tid: numbers.as_ptr().expose_provenance() as u64,
        set_tid_size: 1,
        ..CloneArgs::default()
    };
    let failed = |source| Error::Clone { flags, pids: [pid].into(), source };
    // It is back when the child is there, and who made it has ended.
    let between = CloneArgs {
        flags: (flags | CloneFlags::VFORK).bits(),
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    loop {
        let mask = set_mask(SigSet::ALL);
        // SAFETY: both arguments have the kernel's layout, and are only read, like the number.
        // Without CLONE_VM both children go on here with copies of all memory. They have this
        // one thread, so they touch nothing that another might have locked: they only make
        // system calls, and never return. No signal handler can run in them.
        let result = unsafe {
            let result = clone3(&between);
            if result == 0 {
                // The kernel has room for a number of eight bits.
                let taken = i64::from(getpid() == Pid::from_raw_unchecked(numbers[0]));
                match clone3(&child) {
                    0 => bare_child(maker_fd, false),
                    -1 if taken != 0 => libc::_exit(AGAIN),
                    -1 => libc::_exit(*libc::__errno_location()),
                    _ => libc::_exit(0),
                }
            }
            check(result)
        };
        set_mask(mask);
        let made = result.map_err(failed)?;
        let made = i32::try_from(made).ok().and_then(Pid::from_raw);
        let ended = loop {
            match waitpid(made, WaitOptions::empty()) {
                Err(Errno::INTR) => {}
                ended => break ended,
            }
        };
        let status = ended.map_err(failed)?.and_then(|(_, status)| status.exit_status());
        match status {
            Some(0) => break,
            Some(AGAIN) => {}
            Some(libc::EEXIST) => return Err(Error::PidTaken { pids: [pid].into() }),
            Some(errno) => return Err(failed(Errno::from_raw_os_error(errno))),
            None => return Err(failed(Errno::CHILD)),
        }
    }
    Ok(HostPid::from_raw(pid.as_raw()).expect("a pid is above zero"))
}

/// Who was to make the child had its number; no errno.
const AGAIN: i32 = 255;

/// `clone3(2)`, with the result of the C library's `syscall(3)`.
///
/// # Safety
///
/// For arguments that are, with what they point to, as the kernel expects; and
/// the child must be fit to go on with a copy of all memory.
unsafe fn clone3(args: &CloneArgs) -> i64 {
    // SAFETY: by the caller.
    unsafe {
        libc::syscall(libc::SYS_clone3, std::ptr::from_ref(args), CloneArgs::SIZE as libc::c_ulong)
    }
}
