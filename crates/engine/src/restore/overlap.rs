//! Tasks at work while others get theirs.
//!
//! A puppet that is waited for costs more than most of what it does: the tracer sleeps and is woken, and
//! meanwhile one processor is all that is used. So where no task has to wait for another, each is set
//! going with its batch, and waited for when many are.

use std::collections::VecDeque;

use dormouse_kernel::NsPid;
use dormouse_puppet::{self as puppet, Batch, Busy, Perform};

use super::decode::host;
use super::world::World;
use crate::cause::At;
use crate::{Error, Phase};

/// More at a time are not done sooner.
const MOST: usize = 16;

/// Work for many tasks, in whatever order; those that share memory or an fd table do theirs one after
/// the other.
pub(crate) struct Overlap<'w> {
    world: &'w mut World,
    phase: Phase,
    /// The first has been at work for longest.
    busy: VecDeque<(NsPid, Busy)>,
    failure: Option<Error>,
}

impl<'w> Overlap<'w> {
    pub(crate) fn new(world: &'w mut World, phase: Phase) -> Self {
        Self { world, phase, busy: VecDeque::with_capacity(MOST), failure: None }
    }

    /// The descriptor that leads to dormouse.
    pub(crate) fn link(&self) -> u64 {
        self.world.link()
    }

    /// Has a task make the calls of a batch. Once something has failed, nothing is done any more, and
    /// [`finish`](Self::finish) tells.
    pub(crate) fn run(&mut self, task: NsPid, batch: Batch) {
        if batch.is_empty() || self.failure.is_some() {
            return;
        }
        self.wait_for_relatives(task);
        if self.busy.len() == MOST {
            self.wait_for(MOST / 2);
        }
        if self.failure.is_none() {
            let busy = self.world.take(task).start(batch);
            self.busy.push_back((task, busy));
        }
    }

    /// The same for whoever makes one batch after the other.
    pub(crate) fn hands(&mut self, task: NsPid) -> Hands<'_, 'w> {
        Hands { overlap: self, task }
    }

    /// The world while a task is not at work, nor are those with whom it shares anything.
    pub(crate) fn world_for(&mut self, task: NsPid) -> Result<&mut World, Error> {
        self.wait_for_relatives(task);
        self.failure.take().map_or(Ok(self.world), Err)
    }

    /// The world while nobody is at work.
    pub(crate) fn world(&mut self) -> Result<&mut World, Error> {
        self.wait_for(self.busy.len());
        self.failure.take().map_or(Ok(self.world), Err)
    }

    /// Waits until everybody is done.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        self.world().map(drop)
    }

    /// Waits until nobody is at work who shares memory or an fd table with a task.
    fn wait_for_relatives(&mut self, task: NsPid) {
        let World { kinship, .. } = &*self.world;
        let related = |(other, _): &(NsPid, Busy)| kinship.are_related(*other, task);
        if let Some(last) = self.busy.iter().rposition(related) {
            self.wait_for(last + 1);
        }
    }

    /// Waits for the first `count`. When the last of them is done, so are most others.
    fn wait_for(&mut self, count: usize) {
        for (task, busy) in self.busy.drain(..count).rev() {
            let (bare, result) = busy.finish();
            self.world.put_back(task, bare);
            if let Err(error) = result.of(self.phase, host(task)) {
                self.failure.get_or_insert(error);
            }
        }
    }
}

impl Drop for Overlap<'_> {
    fn drop(&mut self) {
        self.wait_for(self.busy.len());
    }
}

/// A task that does one batch after the other, beside other tasks.
pub(crate) struct Hands<'o, 'w> {
    overlap: &'o mut Overlap<'w>,
    task: NsPid,
}

impl Perform for Hands<'_, '_> {
    fn perform(&mut self, batch: Batch) -> Result<(), puppet::Error> {
        self.overlap.run(self.task, batch);
        Ok(())
    }
}
