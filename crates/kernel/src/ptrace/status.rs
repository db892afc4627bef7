//! What `wait4(2)` tells of a traced task.

use crate::signal::Signal;

/// Why a task stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stop {
    /// A `PTRACE_EVENT_*` stop.
    Event(Event),
    /// A group stop: job control holds the whole process, by this signal.
    /// (A task that was in such a stop already when it was seized reports it
    /// too.)
    Group(Signal),
    /// A signal is about to be delivered. It is, or another one, or none, as
    /// the next [`Stopped::resume`](super::Stopped::resume) says.
    Signal(Signal),
    /// A system call begins or ends.
    Syscall,
}

impl Stop {
    /// Whether the task is where it can stay unnoticed and its registers are
    /// those of its program: in no system call but an interrupted one, with no
    /// signal in the tracer's hand. Only [`Event::Stop`] and [`Stop::Group`]
    /// are so.
    #[must_use]
    pub const fn is_rest(self) -> bool {
        matches!(self, Self::Event(Event::Stop) | Self::Group(_))
    }

    /// Whether job control holds the task. Its signal has ended the call that the task waited in: an
    /// `EINTR` is of that, and the program sees it when it is continued (`signal(7)`, "Interruption of
    /// system calls and library functions by stop signals").
    #[must_use]
    pub const fn is_held(self) -> bool {
        matches!(self, Self::Group(_))
    }
}

/// `PTRACE_EVENT_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// In `fork(2)`; the event message is the child's number.
    Fork,
    /// In `vfork(2)`; the event message is the child's number.
    Vfork,
    /// In `clone(2)`; the event message is the new task's number.
    Clone,
    /// At the end of `execve(2)`; the event message is the former tid.
    Exec,
    /// The child of `vfork(2)` has let go; the event message is its number.
    VforkDone,
    /// Before the end; the event message is the exit status.
    Exit,
    /// A filter said `SECCOMP_RET_TRACE`; the event message is its data.
    Seccomp,
    /// `PTRACE_INTERRUPT`, the first stop of a new task, or the end of a group
    /// stop while listening.
    Stop,
}

impl Event {
    const fn from_raw(raw: i32) -> Option<Self> {
        Some(match raw {
            libc::PTRACE_EVENT_FORK => Self::Fork,
            libc::PTRACE_EVENT_VFORK => Self::Vfork,
            libc::PTRACE_EVENT_CLONE => Self::Clone,
            libc::PTRACE_EVENT_EXEC => Self::Exec,
            libc::PTRACE_EVENT_VFORK_DONE => Self::VforkDone,
            libc::PTRACE_EVENT_EXIT => Self::Exit,
            libc::PTRACE_EVENT_SECCOMP => Self::Seccomp,
            libc::PTRACE_EVENT_STOP => Self::Stop,
            _ => return None,
        })
    }
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// By `exit(2)` or `exit_group(2)`.
    Exited {
        /// The low eight bits of what it gave.
        code: u8,
    },
    /// By a signal.
    Signaled {
        /// Which.
        signal: Signal,
        /// Whether a core was dumped.
        core_dumped: bool,
    },
}

/// A wait status, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Stopped(Stop),
    Exited(Exit),
}

/// Decodes a wait status. `None` for what the kernel does not report under
/// the options known here. See `ptrace_stop` and `do_jobctl_trap` in
/// `kernel/signal.c` for what is where.
pub(super) fn decode(status: i32) -> Option<Change> {
    if libc::WIFEXITED(status) {
        let code = u8::try_from(libc::WEXITSTATUS(status)).ok()?;
        return Some(Change::Exited(Exit::Exited { code }));
    }
    if libc::WIFSIGNALED(status) {
        let signal = Signal::from_raw(libc::WTERMSIG(status))?;
        let core_dumped = libc::WCOREDUMP(status);
        return Some(Change::Exited(Exit::Signaled { signal, core_dumped }));
    }
    if !libc::WIFSTOPPED(status) {
        return None;
    }
    let number = status >> 8 & 0xff;
    let stop = match status >> 16 {
        0 if number == libc::SIGTRAP | 0x80 => Stop::Syscall,
        0 => Stop::Signal(Signal::from_raw(number)?),
        event => match (Event::from_raw(event)?, Signal::from_raw(number)?) {
            (Event::Stop, signal) if signal != Signal::TRAP => Stop::Group(signal),
            (event, _) => Stop::Event(event),
        },
    };
    Some(Change::Stopped(stop))
}

#[cfg(test)]
mod tests {
    use super::{Change, Event, Exit, Stop, decode};
    use crate::signal::Signal;

    #[test]
    fn statuses_are_told_apart() {
        let stopped = |stop| Some(Change::Stopped(stop));
        let stop = |signal: i32, event: i32| signal << 8 | event << 16 | 0x7f;
        assert_eq!(decode(0x0300), Some(Change::Exited(Exit::Exited { code: 3 })));
        assert_eq!(
            decode(0x8b),
            Some(Change::Exited(Exit::Signaled { signal: Signal::SEGV, core_dumped: true }))
        );
        assert_eq!(
            decode(9),
            Some(Change::Exited(Exit::Signaled { signal: Signal::KILL, core_dumped: false }))
        );
        assert_eq!(decode(stop(10, 0)), stopped(Stop::Signal(Signal::USR1)));
        assert_eq!(decode(stop(5, 0)), stopped(Stop::Signal(Signal::TRAP)));
        assert_eq!(decode(stop(0x85, 0)), stopped(Stop::Syscall));
        assert_eq!(decode(stop(5, 3)), stopped(Stop::Event(Event::Clone)));
        assert_eq!(decode(stop(5, 128)), stopped(Stop::Event(Event::Stop)));
        assert_eq!(decode(stop(20, 128)), stopped(Stop::Group(Signal::TSTP)));
        assert_eq!(decode(stop(5, 99)), None);
        assert_eq!(decode(0xffff), None, "continued");
    }
}
