//! How a caller hears how far the work has come.

use crate::Phase;

/// Told of each phase as it begins, and of bytes moved in the phases that
/// move memory. Calls come from the engine's own thread.
pub trait Progress {
    /// A phase begins; `bytes` is what it will move, where it knows.
    fn phase(&mut self, phase: Phase, bytes: Option<u64>);
    /// So many more bytes of the current phase are done.
    fn advance(&mut self, bytes: u64);
    /// Whether nobody wants a dump to go on, which then fails as soon as it
    /// can: often asked.
    fn is_abandoned(&self) -> bool;
}

/// Nobody listens.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn phase(&mut self, _: Phase, _: Option<u64>) {}
    fn advance(&mut self, _: u64) {}
    fn is_abandoned(&self) -> bool {
        false
    }
}
