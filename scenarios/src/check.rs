//! `check!` and `check_eq!`: a mismatch is reported and the scenario goes on,
//! so that one run shows everything that is wrong.
//!
//! A fault is one line on descriptor 2, written with one call: it works in any
//! process or thread of the scenario, chrooted or out of descriptors as it may
//! be. The root turns the lines into its verdict.

use std::fmt::{Debug, Display};
use std::panic::Location;

/// What a fault's line starts with.
pub(crate) const FAULT: &str = "fault: ";

/// Reports a fault at the caller's place.
#[track_caller]
pub(crate) fn fault(text: &dyn Display) {
    let at = Location::caller();
    let line = format!("{FAULT}{}:{}: {text}\n", at.file(), at.line());
    // Nothing is left to tell it to when descriptor 2 is gone; the exit status still says so.
    let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
}

/// Reports the two values if they differ.
#[track_caller]
pub(crate) fn equal<F: Debug + PartialEq<E> + ?Sized, E: Debug + ?Sized>(
    found: &F,
    expected: &E,
    what: &dyn Display,
) {
    if found != expected {
        fault(&format_args!("{what}: expected {expected:?}, found {found:?}"));
    }
}

/// Compares what is there with what must be: `check_eq!(found, expected, "what {}", it)`.
macro_rules! check_eq {
    ($found:expr, $expected:expr, $($what:tt)+) => {
        $crate::check::equal(&$found, &$expected, &format_args!($($what)+))
    };
}

/// Reports `what` unless the condition holds.
macro_rules! check {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            $crate::check::fault(&format_args!($($what)+));
        }
    };
}
