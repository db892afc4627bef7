//! What `clone3(2)` takes.

use bitflags::bitflags;

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
