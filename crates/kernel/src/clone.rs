//! New tasks: `clone3(2)`.
#![allow(unsafe_code)]

use crate::pidfd::{self, PidFd};
use crate::signal::SigSet;
use crate::sys::check;
use crate::{Errno, HostPid, NsPid};
use bitflags::bitflags;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use thiserror::Error;

bitflags! {
    /// `CLONE_*`, see `clone(2)`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct CloneFlags: u64 {
        /// Put into a new time namespace.
        const NEWTIME = 0x80;
        /// Share memory.
        const VM = 0x100;
        /// Share root, working directory and umask.
        const FS = 0x200;
        /// Share the fd table.
        const FILES = 0x400;
        /// Share signal handlers.
        const SIGHAND = 0x800;
        /// Store a pidfd of the child.
        const PIDFD = 0x1000;
        /// Trace the child too.
        const PTRACE = 0x2000;
        /// Wait until the child has ended or runs another program.
        const VFORK = 0x4000;
        /// The child is a sibling.
        const PARENT = 0x8000;
        /// A thread of the same process.
        const THREAD = 0x1_0000;
        /// Put into a new mount namespace.
        const NEWNS = 0x2_0000;
        /// Share System V semaphore undo values.
        const SYSVSEM = 0x4_0000;
        /// Set the thread pointer.
        const SETTLS = 0x8_0000;
        /// Store the child's number in the parent.
        const PARENT_SETTID = 0x10_0000;
        /// Clear the child's number in the child when it ends.
        const CHILD_CLEARTID = 0x20_0000;
        /// The tracer cannot force `PTRACE`.
        const UNTRACED = 0x80_0000;
        /// Store the child's number in the child.
        const CHILD_SETTID = 0x100_0000;
        /// Put into a new cgroup namespace.
        const NEWCGROUP = 0x200_0000;
        /// Put into a new UTS namespace.
        const NEWUTS = 0x400_0000;
        /// Put into a new IPC namespace.
        const NEWIPC = 0x800_0000;
        /// Put into a new user namespace.
        const NEWUSER = 0x1000_0000;
        /// Put into a new pid namespace.
        const NEWPID = 0x2000_0000;
        /// Put into a new network namespace.
        const NEWNET = 0x4000_0000;
        /// Share the I/O context.
        const IO = 0x8000_0000;
        /// Reset all signal handlers (not what is ignored).
        const CLEAR_SIGHAND = 0x1_0000_0000;
        /// Put into the cgroup given.
        const INTO_CGROUP = 0x2_0000_0000;
    }
}

impl CloneFlags {
    /// All that make a new namespace.
    pub const NAMESPACES: Self = Self::NEWTIME
        .union(Self::NEWNS)
        .union(Self::NEWCGROUP)
        .union(Self::NEWUTS)
        .union(Self::NEWIPC)
        .union(Self::NEWUSER)
        .union(Self::NEWPID)
        .union(Self::NEWNET);
}

/// `struct clone_args` (`linux/sched.h`), as of Linux 5.7: what `clone3(2)`
/// takes, with its size as second argument. Addresses are those of the task
/// that makes the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct CloneArgs {
    /// [`CloneFlags`].
    pub flags: u64,
    /// Where to store a pidfd, an `int`.
    pub pidfd: u64,
    /// Where to store the number in the child's memory.
    pub child_tid: u64,
    /// Where to store the number in the parent's memory.
    pub parent_tid: u64,
    /// What tells the parent that the child has ended; 0 for a thread.
    pub exit_signal: u64,
    /// The lowest address of the stack; 0 to go on with the parent's.
    pub stack: u64,
    /// Its size in bytes.
    pub stack_size: u64,
    /// The thread pointer.
    pub tls: u64,
    /// Where the numbers are that the child is to have: `int`s, that in the
    /// innermost pid namespace first.
    pub set_tid: u64,
    /// How many there are.
    pub set_tid_size: u64,
    /// A descriptor of the cgroup's directory.
    pub cgroup: u64,
}

const _: () = assert!(size_of::<CloneArgs>() == CloneArgs::SIZE);
const _: () = assert!(size_of::<CloneArgs>() == size_of::<libc::clone_args>());

impl CloneArgs {
    /// `CLONE_ARGS_SIZE_VER2`, in bytes.
    pub const SIZE: usize = 88;

    /// As it lies in memory.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let Self {
            flags,
            pidfd,
            child_tid,
            parent_tid,
            exit_signal,
            stack,
            stack_size,
            tls,
            set_tid,
            set_tid_size,
            cgroup,
        } = self;
        let words = [
            flags,
            pidfd,
            child_tid,
            parent_tid,
            exit_signal,
            stack,
            stack_size,
            tls,
            set_tid,
            set_tid_size,
            cgroup,
        ];
        let mut bytes = [0; Self::SIZE];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

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
/// those it ignores). It gets SIGKILL when the calling *thread* ends
/// (`PR_SET_PDEATHSIG`, which whoever takes it over has to undo); its end is
/// told with SIGCHLD, and it has to be waited for. It runs in new namespaces
/// of the kinds given, and has the numbers `pids`, the innermost first; with
/// none the kernel chooses.
///
/// # Errors
///
/// See [`Error`].
///
/// # Panics
///
/// If `namespaces` has other flags than [`CloneFlags::NAMESPACES`].
pub fn spawn_bare(pids: &[NsPid], namespaces: CloneFlags) -> Result<HostPid, Error> {
    assert!(CloneFlags::NAMESPACES.contains(namespaces), "only namespaces: {namespaces:?}");
    let raw_pids: Vec<i32> = pids.iter().map(|pid| pid.as_raw()).collect();
    let args = CloneArgs {
        flags: (namespaces | CloneFlags::CLEAR_SIGHAND).bits(),
        exit_signal: libc::SIGCHLD as u64,
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
            bare_child(parent_fd);
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
        Err(source) => Err(Error::Clone { flags: namespaces, pids: pids.into(), source }),
    }
}

/// A descriptor that tells the end of the calling thread; before Linux 6.9,
/// that of its process.
fn own_thread() -> Result<PidFd, Error> {
    let raw = rustix::thread::gettid().as_raw_nonzero().get();
    let tid = HostPid::from_raw(raw).expect("a thread has a positive number");
    match PidFd::open_thread(tid) {
        Err(pidfd::Error { source: Errno::INVAL, .. }) => {
            let raw = rustix::process::getpid().as_raw_nonzero().get();
            Ok(PidFd::open(HostPid::from_raw(raw).expect("a process has a positive number"))?)
        }
        opened => Ok(opened?),
    }
}

/// Sets the signal mask of the calling thread, in full: the C library's
/// functions leave out the two signals that it uses itself.
fn set_mask(new: SigSet) -> SigSet {
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

/// All that the child does. The parent may have ended before its end was
/// made to be told: then its pidfd is readable.
///
/// # Safety
///
/// For a process that has only this thread, and nothing to lose.
unsafe fn bare_child(parent: RawFd) -> ! {
    let mut poll = libc::pollfd { fd: parent, events: libc::POLLIN, revents: 0 };
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: system calls only, which any thread may make at any time. They
    // write to `poll` and to the C library's `errno` of this thread.
    unsafe {
        let told = libc::syscall(
            libc::SYS_prctl,
            libc::PR_SET_PDEATHSIG,
            libc::SIGKILL as libc::c_ulong,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
        );
        let ended = libc::syscall(
            libc::SYS_ppoll,
            &raw mut poll,
            1 as libc::c_ulong,
            &raw const now,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
        );
        if told != 0 || ended != 0 {
            libc::_exit(1);
        }
        loop {
            // pause(2), which not every architecture has: wait for no
            // descriptor, without end.
            libc::syscall(
                libc::SYS_ppoll,
                0 as libc::c_ulong,
                0 as libc::c_ulong,
                0 as libc::c_ulong,
                0 as libc::c_ulong,
                0 as libc::c_ulong,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CloneArgs, CloneFlags, Error, spawn_bare};
    use crate::proc::{ProcDir, TaskState};
    use crate::signal::SigSet;
    use crate::{Errno, HostPid, NsPid};
    use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

    fn wait(pid: HostPid) -> WaitStatus {
        let pid = Pid::from_raw(pid.as_raw()).unwrap();
        waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap().1
    }

    fn kill(pid: HostPid) {
        kill_process(Pid::from_raw(pid.as_raw()).unwrap(), Signal::KILL).unwrap();
        assert_eq!(wait(pid).terminating_signal(), Some(libc::SIGKILL));
    }

    #[test]
    fn a_bare_child_waits_with_all_signals_blocked() {
        let pid = spawn_bare(&[], CloneFlags::empty()).unwrap();
        let dir = ProcDir::open(pid).unwrap();
        while dir.stat().unwrap().state != TaskState::Sleeping {
            std::thread::yield_now();
        }
        let status = dir.status().unwrap();
        assert_eq!(status.ppid, Some(ProcDir::of_self().unwrap().pid()));
        let unblockable =
            [crate::signal::Signal::KILL, crate::signal::Signal::STOP].into_iter().collect();
        assert_eq!(status.blocked.union(unblockable), SigSet::ALL);
        assert!(status.caught.is_empty());
        assert_eq!(dir.stat().unwrap().exit_signal, libc::SIGCHLD);
        // The parent's mask is as it was.
        let tid = HostPid::from_raw(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
        let mine = ProcDir::of_self().unwrap().task(tid).unwrap().status().unwrap();
        assert!(mine.blocked.is_empty());
        kill(pid);
    }

    #[test]
    fn it_ends_with_the_thread_that_made_it() {
        let made = std::thread::spawn(|| spawn_bare(&[], CloneFlags::empty()).unwrap());
        let pid = made.join().unwrap();
        // The thread may end before the child has asked to be told.
        let status = wait(pid);
        let killed = status.terminating_signal() == Some(libc::SIGKILL);
        assert!(killed || status.exit_status() == Some(1), "{status:?}");
    }

    #[test]
    fn it_has_the_number_asked_for() {
        // One that was free a moment ago.
        let free = spawn_bare(&[], CloneFlags::empty()).unwrap();
        kill(free);
        let wanted = NsPid::from_raw(free.as_raw()).unwrap();
        let pid = spawn_bare(&[wanted], CloneFlags::empty()).unwrap();
        assert_eq!(pid.as_raw(), wanted.as_raw());
        let error = spawn_bare(&[wanted], CloneFlags::empty()).unwrap_err();
        assert!(matches!(&error, Error::PidTaken { pids } if **pids == [wanted]));
        assert_eq!(error.to_string(), format!("pid {wanted} is taken"));
        kill(pid);
        let beyond = NsPid::from_raw(i32::MAX).unwrap();
        let error = spawn_bare(&[beyond], CloneFlags::empty()).unwrap_err();
        assert!(matches!(error, Error::Clone { source: Errno::INVAL, .. }));
    }

    #[test]
    fn the_first_of_a_pid_namespace() {
        let first = NsPid::from_raw(1).unwrap();
        let flags = CloneFlags::NEWPID | CloneFlags::NEWTIME | CloneFlags::NEWUTS;
        let pid = spawn_bare(&[first], flags).unwrap();
        let dir = ProcDir::open(pid).unwrap();
        let ns_pids = dir.status().unwrap().ns_pid;
        assert_eq!((ns_pids[0].as_raw(), ns_pids[1]), (pid.as_raw(), first));
        kill(pid);
    }

    #[test]
    #[should_panic(expected = "only namespaces")]
    fn it_shares_nothing() {
        let _ = spawn_bare(&[], CloneFlags::VM);
    }

    #[test]
    fn args_lie_in_memory_as_the_kernel_reads_them() {
        let args = CloneArgs { flags: 1, set_tid_size: 2, cgroup: 3, ..CloneArgs::default() };
        let bytes = args.to_bytes();
        assert_eq!((bytes[0], bytes[72], bytes[80]), (1, 2, 3));
        assert_eq!(bytes.iter().filter(|&&byte| byte != 0).count(), 3);
    }
}
