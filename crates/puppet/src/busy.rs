//! Puppets at work while their tracer does something else.
//!
//! To wait for a puppet takes longer than most batches do. So whoever has work for many of them gives
//! it to one after the other, and waits when all have something to do.

use dormouse_kernel::HostPid;
use dormouse_kernel::ptrace::Running;

use crate::bare::Bare;
use crate::session::{self, Failure};
use crate::{Batch, Error, arch, scratch};

/// Whoever has the calls of a batch made, now or later, and has no use for what they answer.
pub trait Perform {
    /// Has them made.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] names the first call that failed and must not.
    fn perform(&mut self, batch: Batch) -> Result<(), Error>;
}

impl Perform for Bare {
    fn perform(&mut self, batch: Batch) -> Result<(), Error> {
        self.run(batch).map(drop)
    }
}

/// A puppet that makes the calls of a batch.
#[derive(Debug)]
#[must_use = "what became of it is to be asked for"]
pub struct Busy {
    bare: Bare,
    batch: Batch,
    running: Result<Running, Error>,
}

impl Bare {
    /// Sets the task going at the calls of a batch. No other that shares its memory may be at
    /// work meanwhile.
    pub fn start(mut self, batch: Batch) -> Busy {
        let running = self.set_going(&batch);
        Busy { bare: self, batch, running }
    }

    fn set_going(&mut self, batch: &Batch) -> Result<Running, Error> {
        let room = self.batches();
        scratch::put(self.tid, room, batch)?;
        let registers = arch::walk(&self.place, &self.base, room.start(), batch.len() as u64);
        let task = self.task.take().ok_or(Error::Died(self.tid))?;
        session::start(task, &self.place, &registers).map_err(|Failure { task, error }| {
            self.task = task;
            error
        })
    }
}

impl Busy {
    /// Who it is.
    #[must_use]
    pub fn tid(&self) -> HostPid {
        self.bare.tid
    }

    /// Waits for the end of its work, and gives it back, wherever it is; with [`Error::Call`] if a
    /// call has failed that must not.
    pub fn finish(self) -> (Bare, Result<(), Error>) {
        let Self { mut bare, batch, running } = self;
        let result = running.and_then(|running| bare.end_work(running, &batch));
        (bare, result)
    }
}

impl Bare {
    fn end_work(&mut self, running: Running, batch: &Batch) -> Result<(), Error> {
        let after = match session::finish(running, &self.place, &mut self.held) {
            Ok((task, after)) => {
                self.task = Some(task);
                after
            }
            Err(Failure { task, error }) => {
                self.task = task;
                return Err(error);
            }
        };
        let left = arch::left(&after);
        // Whoever has made all its calls has nothing to tell but the log.
        if left > 0 || scratch::is_told() {
            scratch::take(self.tid, self.batches().start(), batch, left)?;
        }
        Ok(())
    }
}
