//! Several tasks of one process at once, in memory that one of them has mapped.

use dormouse_kernel::proc::Status;
use dormouse_kernel::ptrace::Stopped;
use dormouse_kernel::{Addr, AddrRange};

use super::Borrowed;
use crate::arch::{self, BATCHES, SCRATCH};
use crate::{Batch, Error, Replies, scratch, session};

/// A part of the memory that another task has mapped.
#[derive(Clone, Copy)]
pub(super) struct Lent {
    pub(super) memory: Addr,
    pub(super) batches: AddrRange,
}

impl Borrowed<'_> {
    /// How many tasks can be lent to at once.
    #[must_use]
    pub fn lends_to(&self) -> usize {
        self.host.contexts as usize - 1
    }

    /// Borrows other tasks of the process, no more than [`Self::lends_to`], for as
    /// long as `work` runs, which can have all of them make calls at once
    /// ([`run_all`]). Each of them comes back stopped, as it was, whatever became of
    /// the work and of the others, unless it has died. Their batches must be small:
    /// they share the memory of this one.
    ///
    /// # Errors
    ///
    /// Those of the work; or one of them has died, or could not be borrowed or given
    /// back.
    ///
    /// # Panics
    ///
    /// If there are too many.
    pub fn lend<'s, R, E: From<Error>>(
        &mut self,
        tasks: impl IntoIterator<Item = (Stopped, &'s Status)>,
        work: impl FnOnce(&mut [Self]) -> Result<R, E>,
    ) -> (Vec<Stopped>, Result<R, E>) {
        let (tasks, statuses): (Vec<_>, Vec<_>) = tasks.into_iter().unzip();
        assert!(tasks.len() <= self.lends_to(), "there is a context for each");
        let (host, memory, others) = (self.host, self.place.scratch, tasks.len() as u64);
        // Should this process die before all of them have begun, it is left mapped.
        let count = |others: u64| Ok(host.mem.write_exact(memory, &others.to_ne_bytes())?);
        let seen = host.look(tasks.iter().zip(statuses), 1);
        let seen = match seen.and_then(|seen| count(others).map(|()| seen)) {
            Ok(seen) => seen,
            Err(error) => return (tasks, Err(error.into())),
        };
        let lent = tasks.into_iter().zip(seen).zip(0..).map(|((task, seen), index)| {
            let batches = part(memory, index, others).expect("the memory is large enough");
            Self::new(host, task, seen, index + 1, Some(Lent { memory, batches }))
        });
        let mut lent: Vec<_> = lent.collect();
        let begun = lent.iter_mut().try_for_each(Borrowed::begin);
        let result = begun.map_err(E::from).and_then(|()| work(&mut lent));
        let mut back = Vec::with_capacity(lent.len());
        let mut given = Ok(());
        for one in lent {
            let (task, result) = one.give_back();
            back.extend(task);
            given = given.and(result);
        }
        let given = given.and(count(0));
        (back, result.and_then(|done| given.map(|()| done).map_err(E::from)))
    }
}

/// Has each of the tasks, which are lent to by one, make the calls of its batch,
/// all of them at once.
///
/// # Errors
///
/// As [`Borrowed::run`]. All have stopped again.
pub fn run_all(tasks: &mut [Borrowed<'_>], batches: Vec<Batch>) -> Result<Vec<Replies>, Error> {
    let Some(any) = tasks.first().map(|borrowed| borrowed.task().tid()) else {
        return Ok(Vec::new());
    };
    let places: Vec<_> = tasks.iter().map(Borrowed::batches).zip(&batches).collect();
    scratch::put_all(any, &places)?;
    let jobs = tasks.iter_mut().zip(&batches).map(|(borrowed, batch)| {
        let registers = borrowed.at_work(batch);
        borrowed.job(registers)
    });
    let after = session::run_at_once(jobs.collect())?;
    let ran = tasks.iter().zip(&batches).zip(&after).map(|((borrowed, batch), after)| {
        let (tid, left) = (borrowed.task().tid(), arch::left(after));
        (tid, borrowed.batches().start(), batch, left)
    });
    scratch::take_all(&ran.collect::<Vec<_>>())
}

/// One of so many equal parts of the memory for batches.
pub(super) fn part(memory: Addr, index: u64, parts: u64) -> Option<AddrRange> {
    let len = ((SCRATCH - BATCHES) / parts) & !(BATCHES - 1);
    AddrRange::with_len(memory.checked_add(BATCHES + index * len)?, len)
}
