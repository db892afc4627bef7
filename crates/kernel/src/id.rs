//! Numbers the kernel hands out, kept apart by type.

use std::fmt;

/// The pid of a process, or the tid of a thread, as the engine's own pid
/// namespace sees it. Always positive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPid(i32);

/// The same number as the task itself sees it, in its innermost pid
/// namespace (the last column of `NSpid:` in `/proc/PID/status`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NsPid(i32);

/// The number of a file descriptor in some fd table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FdNum(u32);

macro_rules! pid {
    ($name:ident) => {
        impl $name {
            /// `None` for zero and negative numbers, which name no task.
            #[must_use]
            pub const fn from_raw(raw: i32) -> Option<Self> {
                if raw > 0 { Some(Self(raw)) } else { None }
            }

            /// The bare number.
            #[must_use]
            pub const fn as_raw(self) -> i32 {
                self.0
            }
        }
    };
}
pid!(HostPid);

impl HostPid {
    /// That of the calling process.
    #[must_use]
    pub fn of_self() -> Self {
        Self(rustix::process::getpid().as_raw_nonzero().get())
    }

    /// That of the calling thread.
    #[must_use]
    pub fn of_thread() -> Self {
        Self(rustix::thread::gettid().as_raw_nonzero().get())
    }
}

pid!(NsPid);

impl FdNum {
    /// Wraps a descriptor number; the kernel never gives one above `i32::MAX`.
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

macro_rules! show {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    )*};
}
show!(HostPid, NsPid, FdNum);
