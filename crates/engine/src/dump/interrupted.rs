//! Calls that a stop would end with `EINTR` although no signal came.

use dormouse_kernel::pidfd::PidFd;
use dormouse_kernel::ptrace::{self, Registers, Stopped};
use dormouse_kernel::{FdNum, HostPid};
use dormouse_puppet::{Interruption, interruption};
use rustix::net::sockopt::socket_error;

use super::waits::Wait;

/// Has a task that was just stopped make such a call again when it runs, by whatever way it comes to
/// that: let go, or because dormouse has died. The kernel is told what other calls answer that a
/// handler ends: so one that waits for the task by then, or comes while it stands still, runs and
/// has the program see `EINTR`, and nothing else does.
///
/// Calls that answer with one of the kernel's own codes are left alone, and so are those of a process
/// that job control holds: its signal has ended them. Gives the registers of one that is made again.
pub(super) fn hide(task: &mut Stopped) -> Result<Option<Registers>, ptrace::Error> {
    let registers = match task.registers() {
        // 32-bit code is refused later, by name.
        Err(ptrace::Error::Ia32 { .. }) => return Ok(None),
        registers => registers?,
    };
    if interruption(&registers, task.stop().is_held()) != Some(Interruption::Interrupted) {
        return Ok(None);
    }
    let hidden = Interruption::hidden(&registers);
    task.set_registers(&hidden)?;
    Ok(Some(hidden))
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
