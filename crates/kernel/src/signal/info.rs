//! A queued signal.

use super::Signal;
use crate::Addr;
use std::fmt;

/// The kernel's `siginfo_t` on 64-bit: 128 bytes, copied as they are.
///
/// For a checkpoint the bytes are what counts: `PTRACE_PEEKSIGINFO` gives
/// them, `rt_sigqueueinfo(2)` and `rt_tgsigqueueinfo(2)` take them. The typed
/// views are for looking.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct SigInfo {
    bytes: [u8; SigInfo::SIZE],
}

/// What a [`SigInfo`] tells beyond its number and code, which say which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigInfoKind {
    /// From `kill(2)` or `tkill(2)`.
    Kill {
        /// The sender, in the receiver's pid namespace; 0 from outside of it.
        pid: i32,
        /// The sender's real user, in the receiver's user namespace.
        uid: u32,
    },
    /// From `sigqueue(3)` or a message queue.
    Queue {
        /// The sender.
        pid: i32,
        /// The sender's real user.
        uid: u32,
        /// `sigval`.
        value: u64,
    },
    /// From a POSIX timer.
    Timer {
        /// The timer's number.
        id: i32,
        /// How many expirations this one stands for, besides itself.
        overrun: i32,
        /// `sigval`.
        value: u64,
    },
    /// A child has changed state.
    Child {
        /// The child.
        pid: i32,
        /// Its real user.
        uid: u32,
        /// Exit status or signal.
        status: i32,
    },
    /// A fault.
    Fault {
        /// Where.
        addr: Addr,
    },
    /// A descriptor is ready (`F_SETSIG`).
    Poll {
        /// Events.
        band: i64,
        /// The descriptor.
        fd: i32,
    },
    /// Anything else, from the kernel.
    Other,
}

const _: () = assert!(size_of::<SigInfo>() == size_of::<libc::siginfo_t>());
const _: () = assert!(align_of::<SigInfo>() == align_of::<libc::siginfo_t>());

impl SigInfo {
    /// In bytes.
    pub const SIZE: usize = 128;

    /// All zero: what the kernel hands in when it had no memory for more.
    #[must_use]
    pub const fn zeroed() -> Self {
        Self { bytes: [0; Self::SIZE] }
    }

    /// From the kernel's bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        Self { bytes }
    }

    /// The kernel's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::SIZE] {
        &self.bytes
    }

    /// The kernel's bytes, for a system call to fill.
    pub const fn as_bytes_mut(&mut self) -> &mut [u8; Self::SIZE] {
        &mut self.bytes
    }

    fn word(&self, at: usize) -> [u8; 4] {
        let mut word = [0; 4];
        word.copy_from_slice(&self.bytes[at..][..4]);
        word
    }

    fn long(&self, at: usize) -> u64 {
        let mut long = [0; 8];
        long.copy_from_slice(&self.bytes[at..][..8]);
        u64::from_ne_bytes(long)
    }

    fn int(&self, at: usize) -> i32 {
        i32::from_ne_bytes(self.word(at))
    }

    /// `si_signo`; `None` if that is no signal number.
    #[must_use]
    pub fn signal(&self) -> Option<Signal> {
        Signal::from_raw(self.int(0))
    }

    /// `si_code`. Negative and zero: sent by a process; positive: by the
    /// kernel.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.int(8)
    }

    /// The rest, by number and code (see `siginfo_layout` in
    /// `kernel/signal.c`; the offsets are those of
    /// `include/uapi/asm-generic/siginfo.h`).
    #[must_use]
    pub fn kind(&self) -> SigInfoKind {
        let pid = self.int(16);
        let uid = u32::from_ne_bytes(self.word(20));
        match self.code() {
            libc::SI_USER | libc::SI_TKILL => SigInfoKind::Kill { pid, uid },
            libc::SI_TIMER => {
                SigInfoKind::Timer { id: pid, overrun: self.int(20), value: self.long(24) }
            }
            libc::SI_SIGIO => self.poll(),
            code if code < 0 => SigInfoKind::Queue { pid, uid, value: self.long(24) },
            libc::SI_KERNEL => SigInfoKind::Other,
            _ => match self.signal() {
                Some(Signal::CHLD) => SigInfoKind::Child { pid, uid, status: self.int(24) },
                Some(Signal::ILL | Signal::FPE | Signal::SEGV | Signal::BUS | Signal::TRAP) => {
                    SigInfoKind::Fault { addr: Addr::from_raw(self.long(16)) }
                }
                Some(Signal::SYS) | None => SigInfoKind::Other,
                Some(_) => self.poll(),
            },
        }
    }

    fn poll(&self) -> SigInfoKind {
        SigInfoKind::Poll { band: self.long(16).cast_signed(), fd: self.int(24) }
    }
}

impl fmt::Debug for SigInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigInfo")
            .field("signal", &self.signal())
            .field("code", &self.code())
            .field("kind", &self.kind())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use super::{SigInfo, SigInfoKind, Signal};

    /// Has the kernel fill one in: `queue` sends to the calling thread, in
    /// which `signal` is blocked.
    fn receive(signal: Signal, queue: impl FnOnce()) -> SigInfo {
        let mut info = SigInfo::zeroed();
        // SAFETY: plain calls on local memory of the right size.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, signal.as_raw());
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            queue();
            let got = libc::sigwaitinfo(&set, (&raw mut info).cast());
            assert_eq!(got, signal.as_raw());
        }
        info
    }

    #[test]
    fn a_killed_and_a_queued_signal_are_told_apart() {
        // SAFETY: no memory is involved.
        let (pid, uid) = unsafe { (libc::getpid(), libc::getuid()) };
        let info = receive(Signal::USR1, || {
            // SAFETY: as above.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR1) };
        });
        assert_eq!(info.signal(), Some(Signal::USR1));
        assert_eq!(info.kind(), SigInfoKind::Kill { pid, uid });

        let info = receive(Signal::USR2, || {
            let value = libc::sigval { sival_ptr: 0x1234_5678_9abc_usize as *mut _ };
            // SAFETY: the value is only handed on.
            unsafe { libc::pthread_sigqueue(libc::pthread_self(), libc::SIGUSR2, value) };
        });
        assert_eq!(info.kind(), SigInfoKind::Queue { pid, uid, value: 0x1234_5678_9abc });
        assert_eq!(SigInfo::from_bytes(*info.as_bytes()), info);
    }
}
