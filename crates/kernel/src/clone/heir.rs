//! A process that goes on with its parent's work, and ends with it.
#![allow(unsafe_code)]

use rustix::process::{
    Pid, Signal, getpid, getppid, kill_process, parent_process_death_signal, set_child_subreaper,
    set_parent_process_death_signal, setsid,
};

use crate::sys::check;
use crate::{Errno, HostPid};

/// Who [`fork`] returns to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    /// The process that forked, with the pid of its child.
    Parent(HostPid),
    /// The child.
    Child,
}

/// `fork(2)`, for a child that goes on with the parent's work and must not
/// outlive it: the child gets SIGKILL when the parent ends, until it calls
/// [`outlive_parent`].
///
/// # Errors
///
/// `EBUSY` if this process has other threads, whose locks the child would
/// find taken for ever; or what `fork(2)` says.
pub fn fork() -> Result<Forked, Errno> {
    let threads = std::fs::read_dir("/proc/self/task")
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    if threads.count() != 1 {
        return Err(Errno::BUSY);
    }
    let parent = getpid();
    // SAFETY: there is no other thread, and nobody can start one meanwhile:
    // the child is a whole copy of this process, and may do what this may.
    match check(i64::from(unsafe { libc::fork() }))? {
        0 => {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // It may have ended before.
            if getppid() != Some(parent) {
                std::process::exit(1);
            }
            Ok(Forked::Child)
        }
        pid => {
            let pid = i32::try_from(pid).ok().and_then(HostPid::from_raw);
            Ok(Forked::Parent(pid.expect("the kernel returns a pid")))
        }
    }
}

/// From now on, the end of its parent is nothing to this process.
///
/// # Errors
///
/// None that is known of.
pub fn outlive_parent() -> Result<(), Errno> {
    set_parent_process_death_signal(None)
}

/// From now on, neither the end of its parent is anything to this process, nor
/// a signal: not one to its parent's process group or from its terminal, nor
/// any that can be blocked. For a child made by [`fork`] whose work must not
/// be cut off; it has to look after its parent ([`parent`]) by itself.
///
/// # Errors
///
/// `EPERM` if it leads a process group.
pub fn stand_apart() -> Result<(), Errno> {
    setsid()?;
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the first call makes the set that the second reads; none of it
    // touches other memory.
    check(i64::from(unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::sigprocmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut())
    }))?;
    outlive_parent()
}

/// Has the kernel keep children of the caller that have ended until they are waited for. It does not
/// for a program that was started with `SIGCHLD` ignored.
///
/// # Errors
///
/// `sigaction(2)` documents none for that.
pub fn keep_ended_children() -> Result<(), Errno> {
    // SAFETY: the default action runs no code of this process. `SIG_ERR` is -1.
    check(unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) } as i64).map(drop)
}

/// From now on, orphans below this process are not its own
/// (`PR_SET_CHILD_SUBREAPER`, which programs inherit).
///
/// # Errors
///
/// None that is known of.
pub fn adopt_nobody() -> Result<(), Errno> {
    set_child_subreaper(None)
}

/// Whose child this process is at present.
#[must_use]
pub fn parent() -> Option<HostPid> {
    getppid().and_then(|pid| HostPid::from_raw(pid.as_raw_nonzero().get()))
}

/// As long as there is one, such a child does not end with its parent, so that
/// it can undo what it has begun; then it does, if the parent has ended.
#[derive(Debug)]
pub struct Shield {
    parent: Option<Pid>,
    signal: Option<Signal>,
}

impl Shield {
    /// Raises it. It is of no use, and no harm, to a process that is no such
    /// child.
    #[must_use]
    pub fn raise() -> Self {
        let parent = getppid();
        let signal = parent_process_death_signal().unwrap_or(None);
        if signal.is_some() {
            // It cannot fail; if it did, there would be no shield.
            let _ = set_parent_process_death_signal(None);
        }
        Self { parent, signal }
    }
}

impl Drop for Shield {
    fn drop(&mut self) {
        let Some(signal) = self.signal else { return };
        let _ = set_parent_process_death_signal(Some(signal));
        if getppid() != self.parent {
            let _ = kill_process(getpid(), signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shield_puts_back_what_it_found() {
        set_parent_process_death_signal(Some(Signal::WINCH)).unwrap();
        let shield = Shield::raise();
        assert_eq!(parent_process_death_signal().unwrap(), None);
        drop(shield);
        assert_eq!(parent_process_death_signal().unwrap(), Some(Signal::WINCH));
    }

    #[test]
    fn other_threads_forbid_a_fork() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert_eq!(fork(), Err(Errno::BUSY));
        drop(done);
        assert!(other.join().unwrap().is_err());
    }
}
