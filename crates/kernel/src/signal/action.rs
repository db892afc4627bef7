//! What a task does on a signal.

use super::SigSet;
use crate::Addr;
use bitflags::bitflags;

bitflags! {
    /// `SA_*`, see `sigaction(2)`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct ActionFlags: u64 {
        /// No `SIGCHLD` when a child stops or goes on.
        const NOCLDSTOP = libc::SA_NOCLDSTOP as u64;
        /// Children do not become zombies.
        const NOCLDWAIT = libc::SA_NOCLDWAIT as u64;
        /// The handler takes three arguments.
        const SIGINFO = libc::SA_SIGINFO as u64;
        /// The handler accepts tag bits in fault addresses.
        const EXPOSE_TAGBITS = 0x800;
        /// `restorer` is set; always so on x86_64.
        const RESTORER = 0x0400_0000;
        /// The handler runs on the alternate stack.
        const ONSTACK = libc::SA_ONSTACK as u64;
        /// System calls that allow it are started again.
        const RESTART = libc::SA_RESTART as u64;
        /// The signal is not blocked while its handler runs.
        const NODEFER = libc::SA_NODEFER as u64;
        /// Back to the default action once the handler was entered.
        const RESETHAND = 0x8000_0000;

        const _ = !0;
    }
}

/// The kernel's `struct sigaction`, as `rt_sigaction(2)` takes and returns
/// it when its size argument is 8. (The C library's has another layout.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct KernelSigaction {
    /// The address of the handler, or [`Self::DEFAULT`] or [`Self::IGNORE`].
    pub handler: u64,
    /// [`ActionFlags`].
    pub flags: u64,
    /// The address of the code that calls `rt_sigreturn(2)`.
    pub restorer: u64,
    /// What is blocked, besides the signal, while the handler runs.
    pub mask: SigSet,
}

const _: () = assert!(size_of::<KernelSigaction>() == KernelSigaction::SIZE);

impl KernelSigaction {
    /// In bytes.
    pub const SIZE: usize = 32;
    /// `SIG_DFL`.
    pub const DEFAULT: u64 = 0;
    /// `SIG_IGN`.
    pub const IGNORE: u64 = 1;

    /// The handler's address; `None` for the default action and for ignoring.
    #[must_use]
    pub const fn handler_addr(&self) -> Option<Addr> {
        match self.handler {
            Self::DEFAULT | Self::IGNORE => None,
            addr => Some(Addr::from_raw(addr)),
        }
    }

    /// The flags by name.
    #[must_use]
    pub const fn action_flags(&self) -> ActionFlags {
        ActionFlags::from_bits_retain(self.flags)
    }

    /// As it lies in memory.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let words = [self.handler, self.flags, self.restorer, self.mask.as_raw()];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// From memory.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
        let word = |index: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[index * 8..][..8]);
            u64::from_ne_bytes(word)
        };
        Self {
            handler: word(0),
            flags: word(1),
            restorer: word(2),
            mask: SigSet::from_raw(word(3)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Signal, ActionFlags, KernelSigaction, SigSet};
    use crate::Addr;

    #[test]
    fn bytes_round_trip() {
        let action = KernelSigaction {
            handler: 0x5555_1234,
            flags: (ActionFlags::RESTORER | ActionFlags::RESTART).bits(),
            restorer: 0x7fff_0000_1111,
            mask: SigSet::EMPTY.with(Signal::USR1),
        };
        assert_eq!(KernelSigaction::from_bytes(&action.to_bytes()), action);
        assert_eq!(action.to_bytes()[24..], 0x200u64.to_ne_bytes());
        assert_eq!(action.handler_addr(), Some(Addr::from_raw(0x5555_1234)));
        assert_eq!(KernelSigaction::default().handler_addr(), None);
        assert_eq!(action.action_flags(), ActionFlags::RESTORER | ActionFlags::RESTART);
    }
}
