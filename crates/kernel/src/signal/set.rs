//! Signal numbers and sets of them.

use std::fmt;

/// The number of a signal, 1 to 64. 32 and up are the real-time signals as
/// the kernel counts them; the C library keeps 32 and 33 for itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

macro_rules! signals {
    ($($name:ident = $libc:ident),* $(,)?) => {
        impl Signal {
            $(
                #[doc = concat!("`", stringify!($libc), "`.")]
                pub const $name: Self = Self(libc::$libc as u8);
            )*

            const fn name(self) -> Option<&'static str> {
                match self.0 as i32 {
                    $(libc::$libc => Some(stringify!($libc)),)*
                    _ => None,
                }
            }
        }
    };
}
signals! {
    HUP = SIGHUP, INT = SIGINT, QUIT = SIGQUIT, ILL = SIGILL, TRAP = SIGTRAP, ABRT = SIGABRT,
    BUS = SIGBUS, FPE = SIGFPE, KILL = SIGKILL, USR1 = SIGUSR1, SEGV = SIGSEGV, USR2 = SIGUSR2,
    PIPE = SIGPIPE, ALRM = SIGALRM, TERM = SIGTERM, STKFLT = SIGSTKFLT, CHLD = SIGCHLD,
    CONT = SIGCONT, STOP = SIGSTOP, TSTP = SIGTSTP, TTIN = SIGTTIN, TTOU = SIGTTOU, URG = SIGURG,
    XCPU = SIGXCPU, XFSZ = SIGXFSZ, VTALRM = SIGVTALRM, PROF = SIGPROF, WINCH = SIGWINCH,
    IO = SIGIO, PWR = SIGPWR, SYS = SIGSYS,
}

impl Signal {
    /// The highest number, `_NSIG` of the kernel.
    pub const MAX: Self = Self(64);

    /// `None` for zero and for numbers above 64.
    #[must_use]
    pub const fn from_raw(raw: i32) -> Option<Self> {
        if raw >= 1 && raw <= Self::MAX.0 as i32 { Some(Self(raw as u8)) } else { None }
    }

    /// The bare number.
    #[must_use]
    pub const fn as_raw(self) -> i32 {
        self.0 as i32
    }

    /// Whether more than one of it can be queued (32 and up).
    #[must_use]
    pub const fn is_realtime(self) -> bool {
        self.0 >= 32
    }

    /// All 64.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=Self::MAX.0).map(Self)
    }

    const fn bit(self) -> u64 {
        1 << (self.0 - 1)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The kernel's `sigset_t`: 64 bits, signal `n` is bit `n - 1`. (The C
/// library's has 1024.)
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct SigSet(u64);

impl SigSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);
    /// Every signal. As a mask it blocks all but SIGKILL and SIGSTOP.
    pub const ALL: Self = Self(!0);

    /// From the kernel's bits.
    #[must_use]
    pub const fn from_raw(bits: u64) -> Self {
        Self(bits)
    }

    /// The kernel's bits.
    #[must_use]
    pub const fn as_raw(self) -> u64 {
        self.0
    }

    /// Whether `signal` is in the set.
    #[must_use]
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & signal.bit() != 0
    }

    /// The set with `signal`.
    #[must_use]
    pub const fn with(self, signal: Signal) -> Self {
        Self(self.0 | signal.bit())
    }

    /// The set without `signal`.
    #[must_use]
    pub const fn without(self, signal: Signal) -> Self {
        Self(self.0 & !signal.bit())
    }

    /// All signals of either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// All signals not in the set.
    #[must_use]
    pub const fn complement(self) -> Self {
        Self(!self.0)
    }

    /// Whether there is no signal in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its signals, lowest first.
    pub fn iter(self) -> impl Iterator<Item = Signal> {
        Signal::all().filter(move |&signal| self.contains(signal))
    }
}

impl FromIterator<Signal> for SigSet {
    fn from_iter<I: IntoIterator<Item = Signal>>(signals: I) -> Self {
        signals.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Debug for SigSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{SigSet, Signal};

    #[test]
    fn bits_start_at_signal_one() {
        assert_eq!(SigSet::EMPTY.with(Signal::HUP).as_raw(), 1);
        assert_eq!(SigSet::EMPTY.with(Signal::MAX).as_raw(), 1 << 63);
        assert_eq!(SigSet::ALL.iter().count(), 64);
        let some = SigSet::from_raw(0x4002);
        assert_eq!(some.iter().collect::<Vec<_>>(), [Signal::INT, Signal::TERM]);
        assert_eq!(some.iter().collect::<SigSet>(), some);
        assert_eq!(some.without(Signal::INT), SigSet::EMPTY.with(Signal::TERM));
    }

    #[test]
    fn only_1_to_64_are_signals() {
        assert_eq!(Signal::from_raw(0), None);
        assert_eq!(Signal::from_raw(65), None);
        assert_eq!(Signal::from_raw(-1), None);
        assert_eq!(Signal::from_raw(17), Some(Signal::CHLD));
        assert_eq!(Signal::CHLD.to_string(), "SIGCHLD");
        assert_eq!(Signal::MAX.to_string(), "signal 64");
    }
}
