//! System calls that a stop has interrupted, and how they go on unnoticed.
//!
//! A task that is stopped in the middle of a blocking call has left the call:
//! `orig_rax` holds its number and `rax` what it answered. Most calls answer
//! with one of the kernel's own `ERESTART` codes, which no program ever sees:
//! when the task is resumed, the kernel makes the call again. Some answer
//! `EINTR` right away, and a program would see it although no handler ran.

use std::time::Duration;

use dormouse_kernel::ptrace::Registers;

/// How an interrupted call answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// `ERESTARTSYS`: made again unless a handler without `SA_RESTART` runs.
    RestartSys,
    /// `ERESTARTNOINTR`: made again in any case.
    RestartNoIntr,
    /// `ERESTARTNOHAND`: made again unless a handler runs.
    RestartNoHand,
    /// `ERESTART_RESTARTBLOCK`: the same, by `restart_syscall(2)`, which
    /// remembers how much of a time-out is left.
    RestartBlock,
    /// `EINTR`, from a call that answers so whether or not a handler runs.
    Interrupted,
}

/// Calls that answer `EINTR` to any interruption (`signal(7)`, "Interruption
/// of system calls"), and where in the kernel. Those on sockets do so with a
/// time-out only (`SO_RCVTIMEO`, `SO_SNDTIMEO`; `sock_intr_errno` in
/// `include/net/sock.h`).
const NEVER_RESTARTED: [(i64, &str); 24] = [
    (libc::SYS_epoll_wait, "ep_poll in fs/eventpoll.c"),
    (libc::SYS_epoll_pwait, "ep_poll in fs/eventpoll.c"),
    (libc::SYS_epoll_pwait2, "ep_poll in fs/eventpoll.c"),
    (libc::SYS_rt_sigtimedwait, "do_sigtimedwait in kernel/signal.c"),
    (libc::SYS_semop, "__do_semtimedop in ipc/sem.c"),
    (libc::SYS_semtimedop, "__do_semtimedop in ipc/sem.c"),
    (libc::SYS_io_getevents, "io_getevents in fs/aio.c"),
    (IO_PGETEVENTS, "io_pgetevents in fs/aio.c"),
    (libc::SYS_io_uring_enter, "io_cqring_wait in io_uring/io_uring.c"),
    (libc::SYS_read, "sock_intr_errno"),
    (libc::SYS_readv, "sock_intr_errno"),
    (libc::SYS_preadv2, "sock_intr_errno"),
    (libc::SYS_write, "sock_intr_errno"),
    (libc::SYS_writev, "sock_intr_errno"),
    (libc::SYS_pwritev2, "sock_intr_errno"),
    (libc::SYS_recvfrom, "sock_intr_errno"),
    (libc::SYS_recvmsg, "sock_intr_errno"),
    (libc::SYS_recvmmsg, "sock_intr_errno"),
    (libc::SYS_sendto, "sock_intr_errno"),
    (libc::SYS_sendmsg, "sock_intr_errno"),
    (libc::SYS_sendmmsg, "sock_intr_errno"),
    (libc::SYS_accept, "sock_intr_errno"),
    (libc::SYS_accept4, "sock_intr_errno"),
    (libc::SYS_connect, "sock_intr_errno"),
];

/// Whether an interrupted call of this number may answer `EINTR` to a program
/// that has got no signal.
#[must_use]
pub fn may_answer_eintr(number: i64) -> bool {
    NEVER_RESTARTED.iter().any(|&(known, _)| known == number)
}

/// `SYS_io_pgetevents`, which libc does not name.
const IO_PGETEVENTS: i64 = 333;

/// The length of the `syscall` instruction.
const SYSCALL_LEN: u64 = 2;

impl Interruption {
    /// The code, negative, as `rax` holds it.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::RestartSys => -512,
            Self::RestartNoIntr => -513,
            Self::RestartNoHand => -514,
            Self::RestartBlock => -516,
            Self::Interrupted => -(libc::EINTR as i64),
        }
    }

    /// From such a code.
    #[must_use]
    pub fn from_code(code: i64) -> Option<Self> {
        [
            Self::RestartSys,
            Self::RestartNoIntr,
            Self::RestartNoHand,
            Self::RestartBlock,
            Self::Interrupted,
        ]
        .into_iter()
        .find(|known| known.code() == code)
    }

    /// How a call was interrupted for which somebody has already put `EINTR`
    /// in the place of the kernel's own code: those that are never restarted
    /// have it anyway, and those that the kernel would resume. `signal` is as for
    /// [`interruption`].
    #[must_use]
    pub fn of_eintr(registers: &Registers, signal: bool) -> Option<Self> {
        let number = registers.syscall()?.cast_signed();
        if registers.rax.cast_signed() != Self::Interrupted.code() {
            return None;
        }
        let resumable = is_resumable(number).then_some(Self::RestartBlock);
        resumable.or_else(|| interruption(registers, signal))
    }

    /// The registers of a task in which the call has been made again and has
    /// answered `result`. `again` makes the call.
    #[must_use]
    pub fn answered(again: &Registers, result: u64) -> Registers {
        Registers { rax: result, rip: again.rip.wrapping_add(SYSCALL_LEN), ..*again }
    }

    /// The registers of a call that answers `EINTR` whether or not a handler runs, as those of one that
    /// answers so only if one does.
    #[must_use]
    pub fn hidden(registers: &Registers) -> Registers {
        Registers { rax: Self::RestartNoHand.code().cast_unsigned(), ..*registers }
    }

    /// Registers that make the call again from user space.
    #[must_use]
    pub fn call_again(registers: &Registers) -> Registers {
        Registers {
            rax: registers.orig_rax,
            rip: registers.rip.wrapping_sub(SYSCALL_LEN),
            orig_rax: Registers::NO_SYSCALL,
            ..*registers
        }
    }

    /// Registers with which the very task goes on by itself, without the
    /// kernel's own restart: as [`call_again`](Self::call_again), but a call
    /// that the kernel remembers is resumed with the time it has left.
    #[must_use]
    pub fn go_on(self, registers: &Registers) -> Registers {
        let again = Self::call_again(registers);
        match self {
            Self::RestartBlock => Registers { rax: libc::SYS_restart_syscall as u64, ..again },
            _ => again,
        }
    }

    /// The registers from which [`call_again`](Self::call_again) made `again`.
    #[must_use]
    pub fn interrupted_again(self, again: &Registers) -> Registers {
        Registers {
            orig_rax: again.rax,
            rax: self.code().cast_unsigned(),
            rip: again.rip.wrapping_add(SYSCALL_LEN),
            ..*again
        }
    }
}

/// A call that a restored task is to resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumption {
    /// How it was interrupted.
    pub interruption: Interruption,
    /// What was left of its time-out; `None` if it has none, or one that
    /// is a moment, or if nobody knows: then it takes the whole of it again.
    pub time_left: Option<Duration>,
}

/// A time-out among the arguments of a call, by the argument's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeOut {
    /// A number of milliseconds.
    Millis(usize),
    /// A pointer to a `struct timespec`.
    Timespec(usize),
    /// A pointer to a `struct io_uring_getevents_arg`, which may have one.
    Events(usize),
}

impl TimeOut {
    /// The time-out of a call that is not restarted, or that
    /// `restart_syscall(2)` resumes, if it has one that is a span of time.
    /// All other calls tell the program what is left of theirs, and take that
    /// when they are made again.
    #[must_use]
    pub fn of(number: i64, args: &[u64; 6]) -> Option<Self> {
        const FUTEX_COMMAND: u64 =
            !((libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME) as u64);
        /// `IORING_ENTER_EXT_ARG`, `IORING_ENTER_ABS_TIMER` and `IORING_ENTER_EXT_ARG_REG`.
        const EXTENDED: u64 = 1 << 3;
        const MOMENT: u64 = 1 << 5;
        const REGISTERED: u64 = 1 << 6;
        let found = match number {
            libc::SYS_nanosleep => Self::Timespec(0),
            libc::SYS_clock_nanosleep if args[1] & libc::TIMER_ABSTIME as u64 == 0 => {
                Self::Timespec(2)
            }
            libc::SYS_poll => Self::Millis(2),
            libc::SYS_futex if args[1] & FUTEX_COMMAND & 0xffff_ffff == libc::FUTEX_WAIT as u64 => {
                Self::Timespec(3)
            }
            libc::SYS_epoll_wait | libc::SYS_epoll_pwait => Self::Millis(3),
            libc::SYS_epoll_pwait2 | libc::SYS_semtimedop => Self::Timespec(3),
            libc::SYS_rt_sigtimedwait => Self::Timespec(2),
            libc::SYS_io_getevents | IO_PGETEVENTS => Self::Timespec(4),
            libc::SYS_io_uring_enter if args[3] & (EXTENDED | MOMENT | REGISTERED) == EXTENDED => {
                Self::Events(4)
            }
            _ => return None,
        };
        let finite = match found {
            Self::Millis(index) => args[index] as i32 >= 0,
            Self::Timespec(index) | Self::Events(index) => args[index] != 0,
        };
        finite.then_some(found)
    }

    /// The same, if an interruption makes the kernel forget what is left of
    /// it: that of a call that is not restarted.
    #[must_use]
    pub fn forgotten(number: i64, args: &[u64; 6]) -> Option<Self> {
        Self::of(number, args).filter(|_| !is_resumable(number))
    }
}

/// The calls that `restart_syscall(2)` resumes (whoever sets
/// `restart_block.fn`), as numbered on x86_64.
pub(crate) fn is_resumable(number: i64) -> bool {
    [libc::SYS_nanosleep, libc::SYS_clock_nanosleep, libc::SYS_poll, libc::SYS_futex]
        .contains(&number)
}

/// Where a sleep tells what was left of it when a signal ended it.
#[must_use]
pub fn remainder(number: i64, args: &[u64; 6]) -> Option<u64> {
    let at = match number {
        libc::SYS_nanosleep => args[1],
        libc::SYS_clock_nanosleep => args[3],
        _ => 0,
    };
    (at != 0).then_some(at)
}

/// Whether a stopped task with these registers has been interrupted in a
/// call. `signal` tells whether a signal waits for it that will run a
/// handler or end it, or has stopped it: then an `EINTR` is the program's own.
#[must_use]
pub fn interruption(registers: &Registers, signal: bool) -> Option<Interruption> {
    let number = registers.syscall()?.cast_signed();
    let found = Interruption::from_code(registers.rax.cast_signed())?;
    let never = || may_answer_eintr(number);
    (found != Interruption::Interrupted || !signal && never()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped(call: i64, answer: i64) -> Registers {
        Registers {
            rip: 0x1002,
            orig_rax: call as u64,
            rax: answer.cast_unsigned(),
            ..Registers::default()
        }
    }

    #[test]
    fn an_epoll_wait_is_made_again() {
        let registers = stopped(libc::SYS_epoll_wait, -4);
        let found = interruption(&registers, false).unwrap();
        let again = found.go_on(&registers);
        assert_eq!((again.rip, again.rax), (0x1000, libc::SYS_epoll_wait as u64));
        assert_eq!(found.interrupted_again(&again), registers);
    }

    #[test]
    fn an_eintr_of_the_programs_own_stays() {
        assert_eq!(interruption(&stopped(libc::SYS_epoll_wait, -4), true), None);
        assert_eq!(interruption(&stopped(libc::SYS_getpid, -4), false), None);
        assert_eq!(interruption(&stopped(-1, -512), false), None);
    }

    #[test]
    fn an_eintr_in_the_place_of_a_restart_is_known_by_its_call() {
        let of = |call, signal| Interruption::of_eintr(&stopped(call, -4), signal);
        for signal in [false, true] {
            assert_eq!(of(libc::SYS_nanosleep, signal), Some(Interruption::RestartBlock));
            assert_eq!(of(libc::SYS_pause, signal), None);
        }
        assert_eq!(of(libc::SYS_epoll_wait, false), Some(Interruption::Interrupted));
        assert_eq!(of(libc::SYS_epoll_wait, true), None);
        assert_eq!(Interruption::of_eintr(&stopped(libc::SYS_nanosleep, 0), false), None);
    }

    #[test]
    fn a_sleep_is_resumed_by_its_own_task() {
        let registers = stopped(libc::SYS_nanosleep, -516);
        let found = interruption(&registers, true).unwrap();
        assert_eq!(found.go_on(&registers).rax, libc::SYS_restart_syscall as u64);
    }
}
