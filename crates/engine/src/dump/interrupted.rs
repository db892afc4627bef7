//! Calls that a stop would end with `EINTR` although no signal came.

use dormouse_kernel::pidfd::PidFd;
use dormouse_kernel::proc::{self, Status};
use dormouse_kernel::ptrace::{self, Registers, Stopped};
use dormouse_kernel::signal::{SigSet, Signal};
use dormouse_kernel::{FdNum, HostPid};
use dormouse_puppet::{Interruption, interruption};
use rustix::net::sockopt::socket_error;

use super::waits::Wait;

/// Has a task that was just stopped make such a call again when it runs, by
/// whatever way it comes to that: let go, or because dormouse has died.
///
/// Calls that answer with one of the kernel's own codes are left alone: the
/// kernel makes those again by itself. So are those of a process that job control
/// holds: its signal has ended them. Gives the registers of one that makes
/// its call again.
pub(super) fn hide(
    task: &mut Stopped,
    status: impl FnOnce() -> Result<Status, proc::Error>,
) -> Result<Option<Registers>, Error> {
    let registers = match task.registers() {
        // 32-bit code is refused later, by name.
        Err(ptrace::Error::Ia32 { .. }) => return Ok(None),
        registers => registers?,
    };
    if interruption(&registers, task.stop().is_held()) != Some(Interruption::Interrupted) {
        return Ok(None);
    }
    // First of all: should this process die before, the program sees EINTR.
    let again = Interruption::call_again(&registers);
    task.set_registers(&again)?;
    match status() {
        Ok(status) if !awaits_signal(&status) => Ok(Some(again)),
        // A handler will run, or there is nobody left to see.
        other => {
            task.set_registers(&registers)?;
            other?;
            Ok(None)
        }
    }
}

/// Takes back what a stop leaves to the socket of a `recvmmsg(2)` that waited with a part of its
/// messages, and returns these: the kernel notes why it did not get all of them for the next call to
/// tell (`do_recvmmsg` in `net/socket.c`), and here that is a code of its own which is no error.
pub(super) fn forget_reason(task: &Stopped, process: HostPid, wait: &Wait) {
    if !wait.is_in(RECVMMSG) {
        return;
    }
    let Ok(registers) = task.registers() else { return };
    let in_part = (1..registers.rdx).contains(&registers.rax);
    if !in_part || registers.orig_rax != RECVMMSG {
        return;
    }
    let Ok(fd) = u32::try_from(registers.rdi) else { return };
    let pidfd = PidFd::open_thread(task.tid()).or_else(|_| PidFd::open(process));
    // Whoever has closed it meanwhile will not be told either.
    if let Ok(socket) = pidfd.and_then(|pidfd| pidfd.get_fd(FdNum::from_raw(fd))) {
        // To ask is to take it.
        let _ = socket_error(&socket);
    }
}

const RECVMMSG: u64 = libc::SYS_recvmmsg.cast_unsigned();

/// Why a task could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// `/proc` does not tell.
    #[error(transparent)]
    Proc(#[from] proc::Error),
    /// ptrace does not.
    #[error(transparent)]
    Ptrace(#[from] ptrace::Error),
}

/// Signals that do nothing to a process which does not handle them.
const QUIET: [Signal; 4] = [Signal::CHLD, Signal::URG, Signal::WINCH, Signal::CONT];

/// Whether a signal waits that will be delivered as soon as the task runs,
/// and be noticed.
pub(super) fn awaits_signal(status: &Status) -> bool {
    let waiting = status.pending.union(status.shared_pending);
    let blocked_or_ignored = status.blocked.union(status.ignored);
    let quiet = QUIET.iter().fold(SigSet::EMPTY, |set, &signal| set.with(signal));
    waiting.iter().any(|signal| {
        !blocked_or_ignored.contains(signal)
            && (status.caught.contains(signal) || !quiet.contains(signal))
    })
}
