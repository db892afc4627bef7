//! How a caller hears how far the work has come.

use tracing::info;
use tracing::span::EnteredSpan;

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

/// Has the log follow: all that is told there in a phase is told under its name.
pub(crate) struct Logged<'a> {
    progress: &'a mut dyn Progress,
    span: Option<EnteredSpan>,
}

impl<'a> Logged<'a> {
    pub(crate) fn new(progress: &'a mut dyn Progress) -> Self {
        Self { progress, span: None }
    }
}

impl Progress for Logged<'_> {
    fn phase(&mut self, phase: Phase, bytes: Option<u64>) {
        // It was entered before the next one is.
        self.span = None;
        self.span = Some(phase.span().entered());
        match bytes {
            Some(bytes) => info!(bytes, "begins"),
            None => info!("begins"),
        }
        self.progress.phase(phase, bytes);
    }

    fn advance(&mut self, bytes: u64) {
        self.progress.advance(bytes);
    }

    fn is_abandoned(&self) -> bool {
        self.progress.is_abandoned()
    }
}
