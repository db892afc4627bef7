//! How a restored task goes on with the call it was interrupted in.
//!
//! The kernel makes interrupted calls again by itself, and decides by the
//! signals that wait whether it does: so a task is given the registers that
//! the interrupted call left, in a stop where the kernel has yet to look at
//! them. What `restart_syscall(2)` resumes is in the kernel
//! (`task_struct.restart_block`): there the task really makes the call, with
//! the time that is left, and is interrupted at once.
//!
//! Of a call that answers `EINTR` whether or not a handler runs, the kernel is told that one ends it,
//! and nothing else does. If one has a time-out, the program can find it shortened in the register
//! where it passed it.

use std::time::Duration;

use dormouse_kernel::ptrace::Registers;
use dormouse_kernel::{Addr, HostPid, remote_memory};

use crate::resumption::{Interruption, Resumption, TimeOut, is_resumable, remainder};
use crate::{Bare, Error};

/// `struct timespec`, in bytes.
const TIMESPEC: usize = 16;

/// `struct io_uring_getevents_arg`, in bytes, and where its `ts` is.
const EVENTS: usize = 24;
const EVENTS_TIME: usize = 16;

/// How far below the stack pointer a time-out is put, in bytes: below the
/// red zone and the frame of a signal handler that may run first; or, if no more of the stack is
/// there, only below the red zone.
const BELOW_STACK: [u64; 2] = [16 << 10, 256];

impl Bare {
    /// The registers with which the task goes on with a call that was interrupted; `again` make it.
    /// It makes no calls but those to leave after this.
    ///
    /// # Errors
    ///
    /// It has died.
    pub fn resume_call(
        &mut self,
        again: &Registers,
        resumption: Resumption,
    ) -> Result<Registers, Error> {
        let Resumption { interruption, time_left } = resumption;
        let number = again.rax.cast_signed();
        match interruption {
            Interruption::RestartBlock if is_resumable(number) => {
                let mut args = arguments(again);
                let kept = self.keep_remainder(number, &args);
                if let Some(left) = time_left {
                    let at = self.batches().start();
                    if let Some(TimeOut::Timespec(_)) = shorten(number, &mut args, left, at) {
                        remote_memory::write_exact(self.tid(), at, &timespec(left))?;
                    }
                }
                let answer = self.call_interrupted(number, args)?;
                let Some(interruption) = Interruption::from_code(answer.cast_signed()) else {
                    return Ok(Interruption::answered(again, answer));
                };
                if let Some((at, bytes)) = kept {
                    remote_memory::write_exact(self.tid(), at, &bytes)?;
                }
                Ok(interruption.interrupted_again(again))
            }
            Interruption::RestartBlock => Ok(*again),
            Interruption::Interrupted => Ok(match time_left {
                Some(left) => call_with(self.tid(), again, left),
                None => Interruption::RestartNoHand.interrupted_again(again),
            }),
            Interruption::RestartSys
            | Interruption::RestartNoIntr
            | Interruption::RestartNoHand => Ok(interruption.interrupted_again(again)),
        }
    }

    /// An interrupted sleep writes what is left of it, but the program
    /// learns of that only if it ends early.
    fn keep_remainder(&self, number: i64, args: &[u64; 6]) -> Option<(Addr, [u8; TIMESPEC])> {
        let at = Addr::from_raw(remainder(number, args)?);
        let mut bytes = [0; TIMESPEC];
        remote_memory::read_exact(self.tid(), at, &mut bytes).ok()?;
        Some((at, bytes))
    }
}

/// Registers that have the kernel make the call of `again`, one that it does not restart by itself,
/// with the time that is left, unless a handler runs. They change only where the time-out was passed.
#[must_use]
pub fn call_with(task: HostPid, again: &Registers, left: Duration) -> Registers {
    let with_time_at = |below| {
        let mut args = arguments(again);
        let at = Addr::from_raw(again.rsp.saturating_sub(below) & !15);
        let shortened = match shorten(again.rax.cast_signed(), &mut args, left, at) {
            None => false,
            Some(TimeOut::Millis(_)) => true,
            Some(TimeOut::Timespec(_)) => {
                remote_memory::write_exact(task, at, &timespec(left)).is_ok()
            }
            Some(TimeOut::Events(index)) => {
                let given = Addr::from_raw(arguments(again)[index]);
                shorten_events(task, given, left, at)
            }
        };
        shortened.then(|| with_arguments(again, args))
    };
    // Without memory there, the time-out stays as it is.
    let again = BELOW_STACK.into_iter().find_map(with_time_at).unwrap_or(*again);
    Interruption::RestartNoHand.interrupted_again(&again)
}

/// Puts the argument of a wait for completions there once more, with the time left, if it has a
/// time-out.
fn shorten_events(task: HostPid, given: Addr, left: Duration, at: Addr) -> bool {
    let mut bytes = [0; EVENTS];
    let read = remote_memory::read_exact(task, given, &mut bytes);
    if read.is_err() || bytes[EVENTS_TIME..] == [0; EVENTS - EVENTS_TIME] {
        return false;
    }
    let time = at.as_raw() + EVENTS as u64;
    bytes[EVENTS_TIME..].copy_from_slice(&time.to_ne_bytes());
    remote_memory::write_exact(task, at, &[&bytes[..], &timespec(left)].concat()).is_ok()
}

fn arguments(registers: &Registers) -> [u64; 6] {
    let Registers { rdi, rsi, rdx, r10, r8, r9, .. } = *registers;
    [rdi, rsi, rdx, r10, r8, r9]
}

fn with_arguments(registers: &Registers, [rdi, rsi, rdx, r10, r8, r9]: [u64; 6]) -> Registers {
    Registers { rdi, rsi, rdx, r10, r8, r9, ..*registers }
}

/// Puts the time left among the arguments, rounded up; `at` is where it will
/// be in memory if need be.
fn shorten(number: i64, args: &mut [u64; 6], left: Duration, at: Addr) -> Option<TimeOut> {
    let found = TimeOut::of(number, args)?;
    match found {
        TimeOut::Millis(index) => {
            let millis = left.as_nanos().div_ceil(1_000_000);
            args[index] = u64::try_from(millis).unwrap_or(u64::MAX).min(i32::MAX as u64);
        }
        TimeOut::Timespec(index) | TimeOut::Events(index) => args[index] = at.as_raw(),
    }
    Some(found)
}

fn timespec(time: Duration) -> [u8; TIMESPEC] {
    let mut bytes = [0; TIMESPEC];
    bytes[..8].copy_from_slice(&time.as_secs().min(i64::MAX as u64).to_ne_bytes());
    bytes[8..].copy_from_slice(&u64::from(time.subsec_nanos()).to_ne_bytes());
    bytes
}
