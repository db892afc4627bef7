//! What a task waits for, looked at before it is stopped.
//!
//! Being stopped ends a sleep, and then the kernel writes to the program's
//! memory how much was left of it. Other calls forget it: see
//! [`super::sleepers`].
//!
//! - Truth from: `/proc/PID/task/TID/syscall`

use dormouse_kernel::clone::CloneFlags;
use dormouse_kernel::proc::{BlockedIn, ProcDir};
use dormouse_kernel::ptrace::Registers;
use dormouse_kernel::{Addr, HostPid, remote_memory};
use dormouse_puppet::{TimeOut, may_answer_eintr, remainder};

/// `struct timespec`, in bytes.
const TIMESPEC: usize = 16;

/// A call in which a task waits.
#[derive(Clone, Debug)]
pub(crate) struct Wait {
    number: u64,
    args: [u64; 6],
    remainders: Vec<(u64, [u8; TIMESPEC])>,
}

impl Wait {
    /// Looks at a task of a process, while it runs. Whatever cannot be read is
    /// not known.
    pub(super) fn look(process: &ProcDir, tid: HostPid) -> Option<Self> {
        let Ok(BlockedIn::Syscall { number, args, .. }) = process.syscall_of(tid) else {
            return None;
        };
        // A call that goes on after a stop does not say which it was.
        let calls = match number.cast_signed() {
            libc::SYS_restart_syscall => vec![libc::SYS_nanosleep, libc::SYS_clock_nanosleep],
            call => vec![call],
        };
        let places = calls.into_iter().filter_map(|call| remainder(call, &args));
        let remainders = places.filter_map(|at| Some((at, read(tid, at)?))).collect();
        Some(Self { number, args, remainders })
    }

    /// Whether it is the call with this number.
    pub(super) fn is_in(&self, number: u64) -> bool {
        self.number == number
    }

    /// Whether this may be a call that ends when a child has ended or runs
    /// another program.
    pub(super) fn may_be_vfork(&self, tid: HostPid) -> bool {
        let flags = match self.number.cast_signed() {
            libc::SYS_vfork => return true,
            libc::SYS_clone => self.args[0],
            // They are in memory, and there still unless the child has used it.
            libc::SYS_clone3 => {
                let mut flags = [0; 8];
                match remote_memory::read_exact(tid, Addr::from_raw(self.args[0]), &mut flags) {
                    Ok(_) => u64::from_ne_bytes(flags),
                    Err(_) => return true,
                }
            }
            _ => return false,
        };
        CloneFlags::from_bits_retain(flags).contains(CloneFlags::VFORK)
    }

    /// Whether the program would see that the call was interrupted.
    pub(super) fn may_answer_eintr(&self) -> bool {
        may_answer_eintr(self.number.cast_signed())
    }

    /// Its time-out, if the kernel forgets that when it is interrupted.
    pub(super) fn forgotten_time_out(&self) -> Option<TimeOut> {
        TimeOut::forgotten(self.number.cast_signed(), &self.args)
    }

    /// Whether this is the call that a task with these registers was
    /// interrupted in.
    pub(super) fn is(&self, registers: &Registers) -> bool {
        let Registers { rdi, rsi, rdx, r10, r8, r9, orig_rax, .. } = *registers;
        self.number == orig_rax && self.args == [rdi, rsi, rdx, r10, r8, r9]
    }

    /// Whether it is a sleep that tells what is left of it, if it is
    /// interrupted.
    pub(super) fn has_remainder(&self) -> bool {
        !self.remainders.is_empty()
    }

    /// Takes back what the interruption of a sleep, by system call `number`,
    /// has written for a program that will not see it.
    pub(super) fn forget_remainder(&self, tid: HostPid, registers: &Registers, number: u64) {
        let place = remainder(number.cast_signed(), &self.args).filter(|_| self.is(registers));
        if let Some((at, bytes)) = self.remainders.iter().find(|(at, _)| Some(*at) == place) {
            // Memory that cannot be written was not written by the kernel.
            let _ = remote_memory::write_exact(tid, Addr::from_raw(*at), bytes);
        }
    }
}

fn read(tid: HostPid, at: u64) -> Option<[u8; TIMESPEC]> {
    let mut bytes = [0; TIMESPEC];
    remote_memory::read_exact(tid, Addr::from_raw(at), &mut bytes).ok()?;
    Some(bytes)
}
