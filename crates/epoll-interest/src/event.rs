//! Event masks and descriptor numbers, as the kernel stores them in an item.

use std::fmt;

use bitflags::bitflags;

bitflags! {
    /// The event mask of an item: what is waited for, and how it is reported
    /// (`epoll_ctl(2)`, `include/uapi/linux/eventpoll.h`).
    ///
    /// The kernel keeps every bit a program hands it, known or not, so every
    /// bit survives here too.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
    pub struct Events: u32 {
        /// Readable.
        const IN = 0x1;
        /// Exceptional condition.
        const PRI = 0x2;
        /// Writable.
        const OUT = 0x4;
        /// Error; always waited for while the item is armed.
        const ERR = 0x8;
        /// Hang-up; always waited for while the item is armed.
        const HUP = 0x10;
        /// Normal data readable.
        const RDNORM = 0x40;
        /// Priority data readable.
        const RDBAND = 0x80;
        /// Normal data writable.
        const WRNORM = 0x100;
        /// Priority data writable.
        const WRBAND = 0x200;
        /// Unused by the kernel.
        const MSG = 0x400;
        /// The peer shut down its writing half.
        const RDHUP = 0x2000;
        /// Wake one of the epolls on a target, not all.
        const EXCLUSIVE = 1 << 28;
        /// Keep the system awake while the event is handled.
        const WAKEUP = 1 << 29;
        /// Disable the item once it was reported.
        const ONESHOT = 1 << 30;
        /// Edge-triggered.
        const ET = 1 << 31;
        const _ = !0;
    }
}

impl Events {
    /// The bits that say how to report and not what to wait for
    /// (`EP_PRIVATE_BITS`, `fs/eventpoll.c`). All that a fired
    /// [`ONESHOT`](Self::ONESHOT) item has left.
    pub const PRIVATE: Self =
        Self::EXCLUSIVE.union(Self::WAKEUP).union(Self::ONESHOT).union(Self::ET);

    /// Every condition a file can report through `poll`.
    pub const CONDITIONS: Self = Self::from_bits_retain(0x7fff);

    /// No condition is waited for: a one-shot item that has been reported and
    /// not been armed again since.
    #[must_use]
    pub const fn fired(self) -> bool {
        self.difference(Self::PRIVATE).is_empty()
    }
}

/// A descriptor number as part of an item's key: the number the target had
/// when it was added. It need not be open any more, and can belong to another
/// file by now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FdNumber(u32);

impl FdNumber {
    /// Wraps a number; the kernel never gives one above `i32::MAX`.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The bare number.
    #[must_use]
    pub const fn as_raw(self) -> u32 {
        self.0
    }
}

impl fmt::Display for FdNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for FdNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::Events;

    #[test]
    fn an_item_is_fired_once_only_private_bits_are_left() {
        assert!((Events::ONESHOT | Events::ET).fired());
        assert!(!(Events::ONESHOT | Events::ERR).fired());
        assert!(!Events::from_bits_retain(0x800).fired());
    }

    #[test]
    fn unknown_bits_survive() {
        assert_eq!(Events::from_bits_retain(0x0800_0800).bits(), 0x0800_0800);
    }
}
