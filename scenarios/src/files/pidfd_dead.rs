//! Pidfds of tasks that are dead and waited for, two of them of one task.
//!
//! Verified: that they stand for no task; which are of one; that they are readable and hung up;
//! how the tasks ended, where the kernel tells; that no child has been added.
//! CRIU: does not keep how they ended.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::fs::fstat;

use super::pidfd::{pid_of, pidfd_open, polled};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).missing(sys::no_thread_pidfds).faults();

/// `struct pidfd_info`, in 64-bit words.
type Info = [u64; 8];

/// The wait status by `PIDFD_GET_INFO`, if the kernel tells.
fn status(fd: &OwnedFd) -> Option<u32> {
    const GET_INFO: libc::Ioctl = 0xc040_ff0b;
    const EXIT: u64 = 1 << 3;
    let mut info: Info = [EXIT, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: the number says how long `info` is.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), GET_INFO, &raw mut info) };
    (done == 0 && info[0] & EXIT != 0).then_some((info[7] >> 32) as u32)
}

fn run(cx: &mut Context) {
    let one = cx.fork(|_| sys::exit(7));
    let fds = [pidfd_open(one, 0), pidfd_open(one, libc::O_NONBLOCK as u32)];
    check_eq!(sys::wait_status(one), Ok(7 << 8), "the end of the first");
    let other = cx.fork(|_| {
        loop {
            sys::nap(std::time::Duration::from_secs(1));
        }
    });
    let [first, again] = fds;
    let killed = pidfd_open(other, 0);
    // SAFETY: no memory is involved.
    unsafe { libc::kill(other, libc::SIGKILL) };
    check_eq!(sys::wait_status(other), Ok(libc::SIGKILL), "the end of the other");
    let all = [&first, &again, &killed];
    let told = all.map(status);

    cx.ready_and_wait();

    check_eq!(all.map(pid_of), ["-1", "-1", "-1"], "pids");
    check_eq!(all.map(status), told, "how they ended");
    let inode = |fd| fstat(fd).expect("fstat").st_ino;
    check_eq!(inode(&first), inode(&again), "two of one task");
    check!(inode(&first) != inode(&killed), "two of different tasks");
    for fd in all {
        check_eq!(polled(fd), PollFlags::IN | PollFlags::HUP, "events");
    }
    check_eq!(sys::wait_status(-1), Err(libc::ECHILD), "waiting for more");
}
