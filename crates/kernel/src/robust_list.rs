//! Where a task keeps its list of robust futexes.
#![allow(unsafe_code)]

use crate::sys::check;
use crate::{Addr, Errno, HostPid};
use thiserror::Error;

/// What a task told `set_robust_list(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RobustList {
    /// Where the head of the list is; null if the task has none.
    pub head: Addr,
    /// Its size in bytes; the kernel takes one size only.
    pub len: u64,
}

/// `get_robust_list(2)` failed.
#[derive(Debug, Error)]
#[error("cannot get the robust list of task {task}")]
pub struct Error {
    /// Whose list.
    pub task: HostPid,
    /// Why not. `ESRCH`: the task is gone; `EPERM`: it may not be traced;
    /// `ENOSYS`: the kernel has no futexes.
    pub source: Errno,
}

/// Reads it from outside; setting it is for the task to do.
///
/// # Errors
///
/// See [`Error::source`].
pub fn robust_list(task: HostPid) -> Result<RobustList, Error> {
    let (mut head, mut len) = (0u64, 0u64);
    // SAFETY: the kernel writes a pointer and a size_t, eight bytes each on
    // every 64-bit architecture.
    check(unsafe {
        libc::syscall(libc::SYS_get_robust_list, task.as_raw(), &raw mut head, &raw mut len)
    })
    .map_err(|source| Error { task, source })?;
    Ok(RobustList { head: Addr::from_raw(head), len })
}

#[cfg(test)]
mod tests {
    use super::robust_list;
    use crate::clone::{CloneFlags, spawn_bare};
    use crate::pidfd::PidFd;
    use crate::signal::Signal;
    use crate::{Addr, HostPid};

    #[test]
    fn a_thread_has_one_and_a_bare_child_has_none() {
        // The C library sets one up for each of its threads.
        let tid = HostPid::of_thread();
        let mine = robust_list(tid).unwrap();
        assert_ne!(mine.head, Addr::NULL);
        assert_eq!(mine.len, 24);

        let child = spawn_bare(&[], CloneFlags::empty()).unwrap();
        assert_eq!(robust_list(child).unwrap().head, Addr::NULL);
        PidFd::open(child).unwrap().send_signal(Signal::KILL).unwrap();
        let pid = rustix::process::Pid::from_raw(child.as_raw());
        rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap();
        assert_eq!(robust_list(child).unwrap_err().source, crate::Errno::SRCH);
    }
}
