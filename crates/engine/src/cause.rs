//! What is behind an error, and whose fault each kind of it is.

use std::io;
use std::path::PathBuf;

use dormouse_image::ImageError;
use dormouse_kernel::{Errno, FdNum, HostPid, clone, kcmp, pidfd, proc, ptrace, remote_memory};
use dormouse_resources::task::Refusal;
use dormouse_resources::{self as resources, memory};

use crate::dump::freeze;
use crate::processor::Mismatch;
use crate::restore::spawn_plan;
use crate::{Error, ErrorKind, Phase};

/// Everything that can go wrong below the engine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    /// A tree cannot be stopped.
    #[error(transparent)]
    Freeze(#[from] freeze::Error),
    /// Nobody wants it any more.
    #[error("whoever asked for the dump is gone")]
    Abandoned,
    /// A room failed.
    #[error(transparent)]
    Resource(#[from] resources::Error),
    /// Memory failed.
    #[error(transparent)]
    Memory(#[from] memory::Error),
    /// A task did not do as told.
    #[error(transparent)]
    Puppet(#[from] dormouse_puppet::Error),
    /// Images failed.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Tasks could not be compared.
    #[error(transparent)]
    Compare(#[from] kcmp::Error),
    /// `/proc` failed.
    #[error(transparent)]
    Proc(#[from] proc::Error),
    /// ptrace failed.
    #[error(transparent)]
    Ptrace(#[from] ptrace::Error),
    /// A pidfd failed.
    #[error(transparent)]
    Pidfd(#[from] pidfd::Error),
    /// A task could not be made.
    #[error(transparent)]
    Clone(#[from] clone::Error),
    /// There is no order of forks that gives the tree its sessions.
    #[error(transparent)]
    Plan(#[from] spawn_plan::Impossible),
    /// A call of dormouse itself failed.
    #[error("{call} of {subject}")]
    Own {
        /// The call.
        call: &'static str,
        /// On what.
        subject: String,
        /// Why.
        source: Errno,
    },
    /// A file beside the images that the user has asked for.
    #[error("{} cannot be written", path.display())]
    Output {
        /// Where it was to be.
        path: PathBuf,
        /// What the user can do.
        hint: &'static str,
        /// Why not.
        source: Errno,
    },
    /// State that is not carried over.
    #[error("{} is not supported: {}", .0.object(), .0.reason())]
    Unsupported(Refusal),
    /// A pid that the tree needs.
    #[error("pid {pid} is taken by {holder}")]
    PidTaken {
        /// The number.
        pid: HostPid,
        /// The name of the process that has it, or what else holds it.
        holder: String,
    },
    /// An image that contradicts another.
    #[error("{image}: {reason}")]
    Contradiction {
        /// The image.
        image: dormouse_image::ImageName,
        /// What is wrong.
        reason: &'static str,
    },
    /// Files in the image directory that nobody has read.
    #[error("{0} is in the image directory, and this version does not know what to do with it")]
    Unread(String),
    /// Programs may need what this processor does not have.
    #[error(transparent)]
    Processor(#[from] Mismatch),
    /// The tree needs a place in memory that no address is free for.
    #[error("no address range of {0} bytes is free in all processes of the tree")]
    NoRoom(u64),
}

fn of_errno(errno: Errno) -> ErrorKind {
    match errno {
        Errno::PERM | Errno::ACCESS => ErrorKind::Denied,
        Errno::SRCH => ErrorKind::Vanished,
        _ => ErrorKind::Kernel,
    }
}

fn of_proc(error: &proc::Error) -> ErrorKind {
    match error {
        proc::Error::Gone { .. } => ErrorKind::Vanished,
        proc::Error::Io { source, .. } => of_errno(*source),
        proc::Error::Parse { .. } => ErrorKind::Unsupported,
    }
}

fn of_ptrace(error: &ptrace::Error) -> ErrorKind {
    match error {
        ptrace::Error::Died { .. } => ErrorKind::Vanished,
        ptrace::Error::Ia32 { .. } => ErrorKind::Unsupported,
        ptrace::Error::UnknownStatus { .. } => ErrorKind::Kernel,
        ptrace::Error::Refused { source, .. } => of_errno(*source),
    }
}

fn of_puppet(error: &dormouse_puppet::Error) -> ErrorKind {
    use dormouse_puppet::Error as E;
    match error {
        E::Call { source, .. } => of_errno(*source),
        E::NoRoom { .. } | E::NoSignal(_) => ErrorKind::Unsupported,
        E::Limit { .. } => ErrorKind::Denied,
        E::PutBack(error) => of_errno(error.source),
        E::TooLarge { .. } | E::Astray { .. } | E::Taken(_) => ErrorKind::Bug,
        E::Died(_) => ErrorKind::Vanished,
        E::Memory(error) => of_errno(error.source),
        E::Proc(error) => of_proc(error),
        E::Ptrace(error) => of_ptrace(error),
    }
}

fn of_image(error: &ImageError) -> ErrorKind {
    match error {
        ImageError::Io { source, .. } => match Errno::from_io_error(source) {
            Some(errno) => of_errno(errno),
            None => ErrorKind::Kernel,
        },
        ImageError::Unfinished { .. } | ImageError::Twice { .. } => ErrorKind::Bug,
        _ => ErrorKind::CorruptImage,
    }
}

fn of_resource(error: &resources::Error) -> ErrorKind {
    use resources::Error as E;
    match error {
        E::Unsupported { .. } => ErrorKind::Unsupported,
        E::Kernel { source, .. } => of_errno(*source),
        E::Nameless { source, .. } => match of_errno(*source) {
            ErrorKind::Kernel => ErrorKind::Conflict,
            kind => kind,
        },
        E::Changed { .. } => ErrorKind::Vanished,
        E::Corrupt { .. } | E::CorruptCore { .. } => ErrorKind::CorruptImage,
        E::Proc(error) => of_proc(error),
        E::Image(error) => of_image(error),
        E::Fetch(error) => of_errno(error.source),
        E::Ptrace(error) => of_ptrace(error),
        E::Puppet(error) => of_puppet(error),
        E::Compare(error) => of_errno(error.source),
        E::InetReader(_) | E::KernelFiles(_) | E::EpollItem { .. } | E::SockDiag(_) => {
            ErrorKind::Unsupported
        }
        E::NetworkLock(error) => of_errno(error.source),
        E::StandIn(error) => of_clone(error),
        E::ReadEpoll(_) | E::FillEpoll(_) => ErrorKind::Kernel,
        E::Memory(error) => of_memory(error),
    }
}

fn of_clone(error: &clone::Error) -> ErrorKind {
    match error {
        clone::Error::PidTaken { .. } => ErrorKind::Conflict,
        clone::Error::Watch(error) => of_errno(error.source),
        clone::Error::Clone { source, .. } => of_errno(*source),
    }
}

fn of_memory(error: &memory::Error) -> ErrorKind {
    use memory::Error as E;
    match error {
        E::Unsupported { .. } => ErrorKind::Unsupported,
        E::Corrupt { .. } => ErrorKind::CorruptImage,
        E::SegmentTaken { .. } => ErrorKind::Conflict,
        E::AioRing { .. } | E::RingPlace { .. } => ErrorKind::Unsupported,
        E::Segment(error) => of_errno(error.source),
        E::Scheduling(error) => of_errno(error.source),
        E::Proc(error) => of_proc(error),
        E::Image(error) => of_image(error),
        E::Pagemap(error) => of_errno(error.source),
        E::Remote(error) => of_errno(error.source),
        E::Puppet(error) => of_puppet(error),
        E::Vanished { .. } | E::Abandoned => ErrorKind::Vanished,
        E::PageOrder { .. } => ErrorKind::Bug,
        E::Kernel { source, .. } => of_errno(*source),
        E::Pages { source, .. } => Errno::from_io_error(source).map_or(ErrorKind::Kernel, of_errno),
    }
}

fn dead_puppet(error: &dormouse_puppet::Error) -> Option<HostPid> {
    use dormouse_puppet::Error as E;
    match error {
        E::Died(tid) => Some(*tid),
        E::Ptrace(error) => dead_task(error),
        E::Memory(error) => unreachable_task(error),
        _ => None,
    }
}

fn dead_task(error: &ptrace::Error) -> Option<HostPid> {
    error.is_death().then(|| error.tid())
}

fn unreachable_task(error: &remote_memory::Error) -> Option<HostPid> {
    (error.source == Errno::SRCH).then_some(error.pid)
}

impl Cause {
    fn kind(&self) -> ErrorKind {
        use freeze::Error as F;
        match self {
            Self::Freeze(error) => match error {
                F::NoSuchProcess(_) => ErrorKind::Vanished,
                F::IsThread { .. } | F::Suicide | F::Traced { .. } | F::RootIsZombie(_) => {
                    ErrorKind::Conflict
                }
                F::KernelThread(_) | F::Vfork(_) | F::Unanswered(_) => ErrorKind::Unsupported,
                F::Timeout(_) | F::Immovable { .. } => ErrorKind::Kernel,
                F::Reaper(error) => Errno::from_io_error(error).map_or(ErrorKind::Kernel, of_errno),
                F::Abandoned => ErrorKind::Vanished,
                F::Proc(error) => of_proc(error),
                F::Ptrace(error) => of_ptrace(error),
            },
            Self::Abandoned => ErrorKind::Vanished,
            Self::Resource(error) => of_resource(error),
            Self::Memory(error) => of_memory(error),
            Self::Puppet(error) => of_puppet(error),
            Self::Image(error) => of_image(error),
            Self::Compare(error) => of_errno(error.source),
            Self::Proc(error) => of_proc(error),
            Self::Ptrace(error) => of_ptrace(error),
            Self::Pidfd(error) => of_errno(error.source),
            Self::Clone(error) => of_clone(error),
            Self::Plan(_) | Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::Own { source, .. } => of_errno(*source),
            Self::Output { source, .. } => match of_errno(*source) {
                ErrorKind::Denied => ErrorKind::Denied,
                _ => ErrorKind::Conflict,
            },
            Self::PidTaken { .. } => ErrorKind::Conflict,
            Self::Contradiction { .. } => ErrorKind::CorruptImage,
            Self::Unread(_) => ErrorKind::Unsupported,
            Self::Processor(_) | Self::NoRoom(_) => ErrorKind::Unsupported,
        }
    }

    /// The task whose death it is.
    fn dead(&self) -> Option<HostPid> {
        match self {
            Self::Puppet(error)
            | Self::Resource(resources::Error::Puppet(error))
            | Self::Memory(memory::Error::Puppet(error))
            | Self::Resource(resources::Error::Memory(memory::Error::Puppet(error))) => {
                dead_puppet(error)
            }
            Self::Ptrace(error) | Self::Resource(resources::Error::Ptrace(error)) => {
                dead_task(error)
            }
            Self::Memory(memory::Error::Remote(error)) => unreachable_task(error),
            _ => None,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Resource(resources::Error::Unsupported { hint, .. })
            | Self::Output { hint, .. } => Some(hint),
            Self::Unsupported(refusal) => Some(refusal.hint()),
            Self::Plan(_) => Some(Refusal::NoOrder.hint()),
            Self::Ptrace(ptrace::Error::Ia32 { .. })
            | Self::Freeze(freeze::Error::Ptrace(ptrace::Error::Ia32 { .. })) => {
                Some(Refusal::Ia32.hint())
            }
            Self::Resource(resources::Error::EpollItem { problem, .. }) => Some(problem.hint()),
            Self::Resource(resources::Error::Nameless { .. }) => Some(
                "files that have lost their names are opened by them once more: \
                 let the directory be there, writable and not full",
            ),
            Self::Memory(memory::Error::Unsupported { obstacle, .. }) => obstacle.hint(),
            Self::Memory(memory::Error::SegmentTaken { .. }) => {
                Some("remove the segment (ipcrm), or restore in a new IPC namespace")
            }
            Self::Resource(resources::Error::NetworkLock(_)) => {
                Some("it takes nftables and CAP_NET_ADMIN; --network-lock skip does without")
            }
            Self::Freeze(freeze::Error::Traced { .. }) => {
                Some("detach the debugger or tracer first")
            }
            Self::Freeze(freeze::Error::IsThread { .. }) => Some("give the pid of the process"),
            Self::Freeze(freeze::Error::Suicide) => {
                Some("dump from a process that does not descend from the one that is dumped")
            }
            Self::Freeze(freeze::Error::RootIsZombie(_)) => {
                Some("nothing is left of it but a status that its parent has not asked for")
            }
            Self::Freeze(freeze::Error::Vfork(_)) => Some(Refusal::Vfork.hint()),
            Self::Freeze(freeze::Error::Unanswered(_)) => Some(Refusal::Unanswered.hint()),
            Self::Freeze(freeze::Error::KernelThread(_)) => Some(Refusal::KernelThread.hint()),
            Self::Freeze(freeze::Error::Timeout(_) | freeze::Error::Immovable { .. }) => {
                Some("dump again when it is less busy, or give it more time with --timeout")
            }
            Self::Puppet(dormouse_puppet::Error::NoSignal(_)) => {
                Some("dump again when the program has taken one of the signals that wait for it")
            }
            Self::Puppet(dormouse_puppet::Error::Limit { .. }) => Some(
                "a dump takes 256 KiB more for a moment: raise the limit of the process (prlimit), or \
                 give dormouse CAP_SYS_RESOURCE",
            ),
            Self::Processor(_) => Some(
                "restore on a processor that has all of it, or leave the check out with --cpu-cap=none",
            ),
            Self::PidTaken { .. } => Some(
                "end what has it, or restore in a new pid namespace: \
                 `unshare --pid --fork --mount-proc dormouse restore ...`",
            ),
            Self::Image(ImageError::Incomplete { .. }) => {
                Some("check the directory's name, and that the dump has succeeded")
            }
            _ if self.kind() == ErrorKind::Denied => {
                Some("run it as root; `dormouse check` tells what is missing")
            }
            _ => self.limit_hint(),
        }
    }

    /// What to do if it is for want of descriptors.
    fn limit_hint(&self) -> Option<&'static str> {
        let is_of_task =
            matches!(self, Self::Puppet(_) | Self::Resource(resources::Error::Puppet(_)));
        let errno = |error: &(dyn std::error::Error + 'static)| {
            let errno = error.downcast_ref::<Errno>().copied();
            errno.or_else(|| Errno::from_io_error(error.downcast_ref::<io::Error>()?))
        };
        let errors = std::iter::successors(std::error::Error::source(self), |error| error.source());
        match errors.filter_map(errno).last()? {
            Errno::MFILE if !is_of_task => {
                Some("let dormouse have more files open: raise the hard limit (ulimit -Hn)")
            }
            Errno::NFILE => Some("raise the limit of open files of the machine (fs.file-max)"),
            _ => None,
        }
    }
}

/// Adds the place to an error of some room.
pub(crate) trait At<T> {
    /// It happened in this phase.
    fn at(self, phase: Phase) -> Result<T, Error>;
    /// It happened in this phase to this task.
    fn of(self, phase: Phase, task: HostPid) -> Result<T, Error>;
    /// It happened in this phase to this descriptor.
    fn of_fd(self, phase: Phase, task: HostPid, fd: Option<FdNum>) -> Result<T, Error>;
}

impl<T, E: Into<Cause>> At<T> for Result<T, E> {
    fn at(self, phase: Phase) -> Result<T, Error> {
        self.map_err(|error| Error::new(phase, None, None, error.into()))
    }

    fn of(self, phase: Phase, task: HostPid) -> Result<T, Error> {
        self.map_err(|error| Error::new(phase, Some(task), None, error.into()))
    }

    fn of_fd(self, phase: Phase, task: HostPid, fd: Option<FdNum>) -> Result<T, Error> {
        self.map_err(|error| Error::new(phase, Some(task), fd, error.into()))
    }
}

impl Error {
    fn new(phase: Phase, task: Option<HostPid>, fd: Option<FdNum>, cause: Cause) -> Self {
        // Who has died may be another than whom the work was for.
        let task = cause.dead().or(task);
        Self { kind: cause.kind(), phase, task, fd, hint: cause.hint(), source: Box::new(cause) }
    }
}
