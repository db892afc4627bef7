//! New tasks: `clone3(2)`.
#![allow(unsafe_code)]

mod args;
mod custodian;
mod heir;
mod orphan;

pub use args::{CloneArgs, CloneFlags};
pub use custodian::{Custodian, Duty, Ward};
pub use heir::{
    Forked, Shield, adopt_nobody, fork, keep_ended_children, outlive_parent, parent, stand_apart,
};
pub use orphan::spawn_orphan;

use crate::pidfd::{self, PidFd};
use crate::signal::SigSet;
use crate::sys::check;
use crate::{Errno, HostPid, NsPid};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use thiserror::Error;

/// A task could not be made.
#[derive(Debug, Error)]
pub enum Error {
    /// A number it was to have is in use: by a task, or as that of a process
    /// group or session which still has members.
    #[error("pid {} is taken", pids.first().map_or(0, |pid| pid.as_raw()))]
    PidTaken {
        /// The numbers asked for, the innermost first.
        pids: Box<[NsPid]>,
    },
    /// The parent has no pidfd.
    #[error("cannot watch over a new task")]
    Watch(#[from] pidfd::Error),
    /// `clone3(2)` failed.
    #[error("cannot make a task with {flags:?} and pids {pids:?}")]
    Clone {
        /// Flags asked for.
        flags: CloneFlags,
        /// The numbers asked for, the innermost first.
        pids: Box<[NsPid]>,
        /// Why not. With numbers, `EPERM`: neither `CAP_CHECKPOINT_RESTORE`
        /// nor `CAP_SYS_ADMIN`; `EINVAL`: a number above the limit, more of
        /// them than there are namespaces, or not 1 for the first task of a
        /// namespace; `EAGAIN`: too many tasks.
        source: Errno,
    },
}

/// Makes a child of the calling thread that does nothing: it waits to be
/// traced and taken over.
///
/// The child has a copy of this process's memory and fd table. It blocks all
/// signals and has default actions for those this process handles (not for
/// those it ignores). It ends when the calling *thread* does, and gets SIGKILL
/// when its parent ends (`PR_SET_PDEATHSIG`, which whoever takes it over has
/// to undo); its end is told with SIGCHLD, and it has to be waited for. It
/// runs in new namespaces of the kinds given, and has the numbers `pids`, the
/// innermost first; with none the kernel chooses.
///
/// With [`CloneFlags::PARENT`] it is a child of this process's parent, and its
/// end is told as that of this process will be.
///
/// # Errors
///
/// See [`Error`].
///
/// # Panics
///
/// If there are other flags than [`CloneFlags::NAMESPACES`] and
/// [`CloneFlags::PARENT`].
pub fn spawn_bare(pids: &[NsPid], flags: CloneFlags) -> Result<HostPid, Error> {
    let known = CloneFlags::NAMESPACES | CloneFlags::PARENT;
    assert!(known.contains(flags), "only namespaces and the parent: {flags:?}");
    let raw_pids: Vec<i32> = pids.iter().map(|pid| pid.as_raw()).collect();
    let told = if flags.contains(CloneFlags::PARENT) { 0 } else { libc::SIGCHLD };
    let args = CloneArgs {
        flags: (flags | CloneFlags::CLEAR_SIGHAND).bits(),
        exit_signal: told as u64,
        set_tid: if raw_pids.is_empty() { 0 } else { raw_pids.as_ptr().expose_provenance() as u64 },
        set_tid_size: raw_pids.len() as u64,
        ..CloneArgs::default()
    };
    let parent = own_thread()?;
    let parent_fd = parent.as_fd().as_raw_fd();

    let mask = set_mask(SigSet::ALL);
    // SAFETY: `args` has the kernel's layout and, like the numbers, is only
    // read. Without CLONE_VM the child goes on here with a copy of all
    // memory, the stack too; it has this one thread, so it must not touch
    // what another might have locked: it only calls `bare_child`, which makes
    // system calls and never returns. No signal handler can run in it.
    let result = unsafe {
        let result =
            libc::syscall(libc::SYS_clone3, &raw const args, CloneArgs::SIZE as libc::c_ulong);
        if result == 0 {
            bare_child(parent_fd, true);
        }
        result
    };
    let result = check(result);
    set_mask(mask);

    match result {
        Ok(pid) => {
            let pid = i32::try_from(pid).ok().and_then(HostPid::from_raw);
            Ok(pid.expect("the kernel returns a pid"))
        }
        Err(Errno::EXIST) if !pids.is_empty() => Err(Error::PidTaken { pids: pids.into() }),
        Err(source) => Err(Error::Clone { flags, pids: pids.into(), source }),
    }
}

/// A descriptor that tells the end of the calling thread; before Linux 6.9,
/// that of its process.
fn own_thread() -> Result<PidFd, Error> {
    match PidFd::open_thread(HostPid::of_thread()) {
        Err(pidfd::Error { source: Errno::INVAL, .. }) => Ok(PidFd::open(HostPid::of_self())?),
        opened => Ok(opened?),
    }
}

/// Sets the signal mask of the calling thread, in full: the C library's
/// functions leave out the two signals that it uses itself.
pub(crate) fn set_mask(new: SigSet) -> SigSet {
    let mut old = SigSet::EMPTY;
    // SAFETY: both sets are the kernel's eight bytes. Blocking the C library's
    // own signals for a moment only delays what other threads ask of this
    // one.
    let result = check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const new,
            &raw mut old,
            size_of::<SigSet>() as libc::c_ulong,
        )
    });
    result.expect("the arguments are valid");
    old
}

/// All that the child does: it waits for its maker's end, which makes the
/// pidfd readable, whether or not that is its parent. If it is, the child is to
/// be `killed` then, whatever it does.
///
/// # Safety
///
/// For a process that has only this thread, and nothing to lose.
unsafe fn bare_child(maker: RawFd, killed: bool) -> ! {
    let signal = if killed { libc::SIGKILL } else { 0 };
    let mut poll = libc::pollfd { fd: maker, events: libc::POLLIN, revents: 0 };
    // SAFETY: system calls only, which any thread may make at any time. They
    // write to `poll` and to the C library's `errno` of this thread.
    unsafe {
        let told = libc::syscall(
            libc::SYS_prctl,
            libc::PR_SET_PDEATHSIG,
            signal as libc::c_ulong,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
        );
        if told != 0 {
            libc::_exit(1);
        }
        loop {
            // poll(2), which not every architecture has, without end.
            let ended = libc::syscall(
                libc::SYS_ppoll,
                &raw mut poll,
                1 as libc::c_ulong,
                0 as libc::c_ulong,
                0 as libc::c_ulong,
                0 as libc::c_ulong,
            );
            if ended > 0 {
                libc::_exit(1);
            }
        }
    }
}

#[cfg(test)]
mod tests;
