//! What can be seen of a stopped task, and changed.

use super::error::Error;
use super::raw;
use super::registers::Registers;
use super::task::Stopped;
use crate::Addr;
use crate::Errno;
use crate::signal::{SigInfo, SigSet};
use std::sync::atomic::{AtomicUsize, Ordering};

/// One of the two queues of signals that a task takes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Queue {
    /// Signals for this thread.
    Thread,
    /// Signals for the process, which any of its threads may take.
    Process,
}

/// A registration with `rseq(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rseq {
    /// Where `struct rseq` is.
    pub addr: Addr,
    /// Its size in bytes, as registered.
    pub size: u32,
    /// What must stand before abort handlers.
    pub signature: u32,
    /// As registered.
    pub flags: u32,
}

/// `PR_SET_SYSCALL_USER_DISPATCH`: system calls from outside of `allowed`
/// raise `SIGSYS` while the byte at `selector` says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SyscallUserDispatch {
    /// The address of the selector byte.
    pub selector: Addr,
    /// From where calls are always allowed.
    pub offset: u64,
    /// How many bytes from there.
    pub len: u64,
}

/// A segment that a thread has described to the processor (`struct user_desc`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its first address.
    pub base: u32,
    /// How far it reaches.
    pub limit: u32,
    /// The bits behind these, in their order.
    pub flags: u32,
}

impl Segment {
    /// `LDT_empty` in `asm/desc.h`: what a place has that nothing was put into.
    pub const NONE: Self = Self { base: 0, limit: 0, flags: 1 << 3 | 1 << 5 };
}

impl Stopped {
    /// The general registers. The kernel is asked once in a stop.
    ///
    /// # Errors
    ///
    /// [`Error::Ia32`] if the task runs 32-bit code.
    pub fn registers(&self) -> Result<Registers, Error> {
        if let Some(registers) = self.registers.get() {
            return Ok(**registers);
        }
        let registers = raw::registers(self.tid())?;
        Ok(**self.registers.get_or_init(|| Box::new(registers)))
    }

    /// Changes the general registers, all at once.
    ///
    /// # Errors
    ///
    /// `EIO` if a segment or base is not allowed.
    pub fn set_registers(&mut self, registers: &Registers) -> Result<(), Error> {
        // What the kernel makes of them is for the kernel to say.
        self.registers.take();
        raw::set_registers(self.tid(), registers)
    }

    /// The extended state (x87, SSE, AVX and so on) in the standard format of
    /// `XSAVE`, all of it: how long it is depends on the processor.
    ///
    /// # Errors
    ///
    /// `ENODEV` on processors without `XSAVE`.
    pub fn xstate(&self) -> Result<Vec<u8>, Error> {
        // AVX-512 needs less than 4 KiB, the tiles of AMX less than 12. What was enough for one
        // task is so for the next: the kernel gives all of them the same.
        static ENOUGH: AtomicUsize = AtomicUsize::new(4096);
        let mut bytes = vec![0; ENOUGH.load(Ordering::Relaxed)];
        loop {
            let len = raw::xstate(self.tid(), &mut bytes)?;
            if len < bytes.len() {
                ENOUGH.fetch_max(bytes.len(), Ordering::Relaxed);
                bytes.truncate(len);
                return Ok(bytes);
            }
            bytes.resize(bytes.len() * 2, 0);
        }
    }

    /// Changes the extended state.
    ///
    /// # Errors
    ///
    /// `EFAULT` if `xstate` is shorter than what [`Self::xstate`] gives,
    /// `EINVAL` if its header names features that the kernel does not know.
    pub fn set_xstate(&mut self, xstate: &[u8]) -> Result<(), Error> {
        raw::set_xstate(self.tid(), xstate)
    }

    /// The signals blocked. In a system call that blocks others for its time
    /// (`sigsuspend(2)`, `ppoll(2)`) those to be blocked after it.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn sigmask(&self) -> Result<SigSet, Error> {
        raw::sigmask(self.tid()).map(SigSet::from_raw)
    }

    /// Changes the signals blocked. A mask that a system call has put in its
    /// place for its time is gone; the call sets it again if it is restarted.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn set_sigmask(&mut self, mask: SigSet) -> Result<(), Error> {
        raw::set_sigmask(self.tid(), mask.as_raw())
    }

    /// The signal that the stop is about; of group stops and events only
    /// `si_code` has a meaning.
    ///
    /// # Errors
    ///
    /// `EINVAL` in a group stop, if the kernel has nothing to tell.
    pub fn siginfo(&self) -> Result<SigInfo, Error> {
        raw::siginfo(self.tid())
    }

    /// Changes the signal about to be delivered.
    ///
    /// # Errors
    ///
    /// `EINVAL` where there is none.
    pub fn set_siginfo(&mut self, info: &SigInfo) -> Result<(), Error> {
        raw::set_siginfo(self.tid(), info)
    }

    /// The signals that wait in a queue, in its order. They stay there.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn queued_signals(&self, queue: Queue) -> Result<Vec<SigInfo>, Error> {
        let shared = queue == Queue::Process;
        let mut infos = Vec::new();
        let mut piece = [SigInfo::zeroed(); 64];
        loop {
            let count = raw::peek_siginfo(self.tid(), shared, infos.len() as u64, &mut piece)?;
            if count == 0 {
                return Ok(infos);
            }
            infos.extend_from_slice(&piece[..count]);
        }
    }

    /// The thread's registration with `rseq(2)`, if there is one.
    ///
    /// # Errors
    ///
    /// `EIO` before Linux 5.13.
    pub fn rseq(&self) -> Result<Option<Rseq>, Error> {
        let raw::RseqConfiguration { pointer, size, signature, flags, .. } = raw::rseq(self.tid())?;
        let rseq = Rseq { addr: Addr::from_raw(pointer), size, signature, flags };
        Ok((pointer != 0).then_some(rseq))
    }

    /// Syscall user dispatch, if the thread has it on.
    ///
    /// # Errors
    ///
    /// `EIO` before Linux 6.4.
    pub fn syscall_user_dispatch(&self) -> Result<Option<SyscallUserDispatch>, Error> {
        let config = raw::syscall_user_dispatch(self.tid())?;
        let dispatch = SyscallUserDispatch {
            selector: Addr::from_raw(config.selector),
            offset: config.offset,
            len: config.len,
        };
        Ok((config.mode != 0).then_some(dispatch))
    }

    /// Turns syscall user dispatch on, as
    /// [`syscall_user_dispatch`](Self::syscall_user_dispatch) tells it.
    ///
    /// # Errors
    ///
    /// `EIO` before Linux 6.4; `EFAULT` if the selector is no address.
    pub fn set_syscall_user_dispatch(
        &mut self,
        SyscallUserDispatch { selector, offset, len }: SyscallUserDispatch,
    ) -> Result<(), Error> {
        const ON: u64 = 1;
        const INCLUSIVE_ON: u64 = 2;
        // A range of which calls are to be caught the kernel keeps as the
        // rest, which goes over the end of all addresses.
        let wraps = len != 0 && offset.checked_add(len).is_none();
        let (mode, offset, len) = if wraps {
            (INCLUSIVE_ON, offset.wrapping_add(len), len.wrapping_neg())
        } else {
            (ON, offset, len)
        };
        let config = raw::SudConfig { mode, selector: selector.as_raw(), offset, len };
        raw::set_syscall_user_dispatch(self.tid(), &config)
    }

    /// A segment of the thread's own, by its place in the processor's table (12 to 14).
    ///
    /// # Errors
    ///
    /// `EIO` if the kernel runs no 32-bit programs, which these are for; `EINVAL` for another place.
    pub fn segment(&self, entry: u32) -> Result<Segment, Error> {
        let raw::UserDesc { entry: _, base, limit, flags } = raw::thread_area(self.tid(), entry)?;
        Ok(Segment { base, limit, flags })
    }

    /// Describes a segment of the thread's own.
    ///
    /// # Errors
    ///
    /// As [`segment`](Self::segment), and `EINVAL` for a segment that may not be.
    pub fn set_segment(&mut self, entry: u32, segment: Segment) -> Result<(), Error> {
        let Segment { base, limit, flags } = segment;
        raw::set_thread_area(self.tid(), &raw::UserDesc { entry, base, limit, flags })
    }

    /// The `index`th seccomp filter of the thread, the oldest first: its
    /// instructions, and `SECCOMP_FILTER_FLAG_*` as far as the kernel tells.
    ///
    /// # Errors
    ///
    /// `EACCES` without `CAP_SYS_ADMIN`, or if the caller has filters itself.
    pub fn seccomp_filter(&self, index: usize) -> Result<Option<(Vec<u8>, u64)>, Error> {
        match raw::seccomp_filter(self.tid(), index) {
            Ok(program) => Ok(Some((program, raw::seccomp_flags(self.tid(), index)?))),
            Err(Error::Refused { source: Errno::NOENT, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What goes with an event, see [`Event`](super::Event).
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn event_message(&self) -> Result<u64, Error> {
        raw::event_message(self.tid())
    }
}
