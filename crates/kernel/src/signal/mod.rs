//! Signals: numbers, sets, dispositions and queued signals, all with the
//! kernel's layout rather than the C library's.

mod action;
mod info;
mod set;

pub use action::{ActionFlags, KernelSigaction};
pub use info::{SigInfo, SigInfoKind};
pub use set::{SigSet, Signal};
