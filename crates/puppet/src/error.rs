//! What can go wrong with a puppet.

use dormouse_kernel::{Addr, AddrRange, Errno, HostPid, ptrace, remote_memory};

/// Why a task did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of its system calls failed.
    #[error("{call}({args}) in task {task}")]
    Call {
        /// The task.
        task: HostPid,
        /// The call.
        call: Syscall,
        /// Its arguments.
        args: Args,
        /// Why.
        source: Errno,
    },
    /// There is no place for the code in the task.
    #[error(
        "task {task} has neither a vDSO nor a program with {needed} bytes to spare, where dormouse \
         could run code"
    )]
    NoRoom {
        /// The task.
        task: HostPid,
        /// How much is needed.
        needed: usize,
    },
    /// The batch is larger than the memory for it.
    #[error("{needed} bytes of calls for task {task}, which has room for {room}")]
    TooLarge {
        /// The task.
        task: HostPid,
        /// What it takes, in bytes.
        needed: usize,
        /// What there is, in bytes.
        room: u64,
    },
    /// The task has died.
    #[error("task {0} has died")]
    Died(HostPid),
    /// The task stopped, and not where its code ends.
    #[error("task {task} stopped by {stop:?} at {at:?}")]
    Astray {
        /// The task.
        task: HostPid,
        /// How.
        stop: ptrace::Stop,
        /// Where.
        at: Addr,
    },
    /// The code's place is in use.
    #[error("{0:?} is not free in the new process")]
    Taken(AddrRange),
    /// Its memory could not be reached.
    #[error(transparent)]
    Memory(#[from] remote_memory::Error),
    /// It could not be looked into.
    #[error(transparent)]
    Proc(#[from] dormouse_kernel::proc::Error),
    /// ptrace refused.
    #[error(transparent)]
    Ptrace(ptrace::Error),
}

impl From<ptrace::Error> for Error {
    fn from(error: ptrace::Error) -> Self {
        match error {
            ptrace::Error::Died { tid } => Self::Died(tid),
            error => Self::Ptrace(error),
        }
    }
}

/// The number of a system call; shows its name where it has one here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syscall(pub i64);

/// Arguments as they were when the call was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Args(pub [u64; 6]);

impl std::fmt::Display for Args {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Trailing zeros are most probably no arguments at all.
        let used = self.0.iter().rposition(|&arg| arg != 0).map_or(0, |last| last + 1);
        for (index, arg) in self.0[..used].iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            match arg {
                0..=9999 => write!(f, "{arg}")?,
                _ if *arg > u64::MAX - 4096 => write!(f, "{}", arg.cast_signed())?,
                _ => write!(f, "{arg:#x}")?,
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Syscall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            libc::SYS_arch_prctl => "arch_prctl",
            libc::SYS_brk => "brk",
            libc::SYS_capset => "capset",
            libc::SYS_chroot => "chroot",
            libc::SYS_clone3 => "clone3",
            libc::SYS_close => "close",
            libc::SYS_close_range => "close_range",
            libc::SYS_dup3 => "dup3",
            libc::SYS_execve => "execve",
            libc::SYS_exit_group => "exit_group",
            libc::SYS_fchdir => "fchdir",
            libc::SYS_fcntl => "fcntl",
            libc::SYS_fsync => "fsync",
            libc::SYS_futex => "futex",
            libc::SYS_getitimer => "getitimer",
            libc::SYS_getpid => "getpid",
            libc::SYS_gettid => "gettid",
            libc::SYS_get_robust_list => "get_robust_list",
            libc::SYS_ioctl => "ioctl",
            libc::SYS_lseek => "lseek",
            libc::SYS_madvise => "madvise",
            libc::SYS_mlock2 => "mlock2",
            libc::SYS_mlockall => "mlockall",
            libc::SYS_mmap => "mmap",
            libc::SYS_mprotect => "mprotect",
            libc::SYS_mremap => "mremap",
            libc::SYS_munmap => "munmap",
            libc::SYS_open => "open",
            libc::SYS_openat => "openat",
            libc::SYS_personality => "personality",
            libc::SYS_pidfd_getfd => "pidfd_getfd",
            libc::SYS_pidfd_open => "pidfd_open",
            libc::SYS_prctl => "prctl",
            libc::SYS_preadv => "preadv",
            libc::SYS_prlimit64 => "prlimit64",
            libc::SYS_read => "read",
            libc::SYS_rseq => "rseq",
            libc::SYS_rt_sigaction => "rt_sigaction",
            libc::SYS_rt_sigprocmask => "rt_sigprocmask",
            libc::SYS_rt_sigqueueinfo => "rt_sigqueueinfo",
            libc::SYS_rt_sigtimedwait => "rt_sigtimedwait",
            libc::SYS_rt_tgsigqueueinfo => "rt_tgsigqueueinfo",
            libc::SYS_sched_getattr => "sched_getattr",
            libc::SYS_sched_setattr => "sched_setattr",
            libc::SYS_sched_setscheduler => "sched_setscheduler",
            libc::SYS_setfsgid => "setfsgid",
            libc::SYS_setfsuid => "setfsuid",
            libc::SYS_setgroups => "setgroups",
            libc::SYS_setitimer => "setitimer",
            libc::SYS_setpgid => "setpgid",
            libc::SYS_setpriority => "setpriority",
            libc::SYS_setresgid => "setresgid",
            libc::SYS_setresuid => "setresuid",
            libc::SYS_setsid => "setsid",
            libc::SYS_set_robust_list => "set_robust_list",
            libc::SYS_set_tid_address => "set_tid_address",
            libc::SYS_sigaltstack => "sigaltstack",
            libc::SYS_tgkill => "tgkill",
            libc::SYS_timer_create => "timer_create",
            libc::SYS_timer_settime => "timer_settime",
            libc::SYS_umask => "umask",
            libc::SYS_unshare => "unshare",
            libc::SYS_wait4 => "wait4",
            number => return write!(f, "system call {number}"),
        })
    }
}
