//! What is to be undone if a dump comes to nothing.

use std::fmt;

/// Changes that a dump made outside of its images (hard links for files that
/// have lost their name). They are undone, last first, unless the dump is
/// completed and says [`keep`](Self::keep).
#[derive(Default)]
#[must_use = "dropping it undoes the changes"]
pub struct UndoLog(Vec<Box<dyn FnOnce()>>);

impl UndoLog {
    /// Notes how to undo a change that was just made.
    pub(crate) fn push(&mut self, undo: impl FnOnce() + 'static) {
        self.0.push(Box::new(undo));
    }

    /// The changes are there to stay.
    pub fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for UndoLog {
    fn drop(&mut self) {
        for undo in self.0.drain(..).rev() {
            undo();
        }
    }
}

impl fmt::Debug for UndoLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UndoLog").field(&self.0.len()).finish()
    }
}
