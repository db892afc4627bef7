//! Signalfds: which signals they are for, flags, and a signal that waits.
//!
//! Verified: that exactly the signals of the set are read, and a waiting one with its payload.
//! CRIU: works.

use std::os::fd::{FromRawFd, OwnedFd};

use rustix::fs::fcntl_getfl;
use rustix::io::{Errno, read};

use crate::sys::{block, queue, sigset};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

/// `struct signalfd_siginfo`, in bytes.
const INFO: usize = 128;

fn signalfd(mask: u64, flags: i32) -> OwnedFd {
    // SAFETY: the mask has the eight bytes stated.
    let fd = unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, 8usize, flags) };
    assert!(fd >= 0, "signalfd: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just made it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// Number and payload of the next signal.
fn next(fd: &OwnedFd) -> Result<(u32, u64), Errno> {
    let mut info = [0; INFO];
    read(fd, &mut info)?;
    let signal = u32::from_ne_bytes(info[..4].try_into().expect("four bytes"));
    // ssi_ptr, behind eleven 32-bit fields and ssi_int.
    Ok((signal, u64::from_ne_bytes(info[48..56].try_into().expect("eight bytes"))))
}

fn run(cx: &mut Context) {
    let realtime = libc::SIGRTMIN() + 3;
    block(sigset(&[libc::SIGUSR1, libc::SIGUSR2, realtime]));
    let waiting = signalfd(sigset(&[realtime]), libc::SFD_NONBLOCK);
    let quiet = signalfd(sigset(&[libc::SIGUSR1]), libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
    let me = std::process::id() as i32;
    queue(me, None, realtime, 0x1234_5678).expect("rt_sigqueueinfo");
    let flags = fcntl_getfl(&quiet);

    cx.ready_and_wait();

    check_eq!(next(&waiting), Ok((realtime as u32, 0x1234_5678)), "the signal that waited");
    check_eq!(next(&waiting), Err(Errno::AGAIN), "one more");
    check_eq!(fcntl_getfl(&quiet), flags, "status flags");
    check_eq!(next(&quiet), Err(Errno::AGAIN), "a signal that nobody sent");
    queue(me, None, libc::SIGUSR2, 1).expect("rt_sigqueueinfo");
    check_eq!(next(&quiet), Err(Errno::AGAIN), "a signal that is not of the set");
    queue(me, None, libc::SIGUSR1, 2).expect("rt_sigqueueinfo");
    check_eq!(next(&quiet), Ok((libc::SIGUSR1 as u32, 2)), "a signal of the set");
}
