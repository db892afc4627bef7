//! A task of each of several processes at once.
//!
//! One after the other, each would wait for a processor, and then this process for one.

use dormouse_kernel::proc::Status;
use dormouse_kernel::ptrace::{Registers, Stopped};

use super::{Borrowed, Host};
use crate::{Batch, Error, Replies, arch, scratch, session};

/// An error, and of which of the tasks it is.
type Of<E> = (usize, E);

/// Borrows a task of each of several processes, no two of which share memory, for as long as
/// `work` runs: it can have all of them make calls at once ([`run_each`]). Each of them comes back
/// stopped, as it was, whatever became of the work and of the others, unless it has died.
///
/// # Errors
///
/// Those of the work; or one of them has died, or could not be borrowed or given back. With each
/// error comes the place of the task among the others.
pub fn borrow_each<'h, R, E: From<Error>>(
    tasks: Vec<(&'h Host, Stopped, &Status)>,
    work: impl FnOnce(&mut [Borrowed<'h>]) -> Result<R, Of<E>>,
) -> (Vec<Option<Stopped>>, Result<R, Of<E>>) {
    let look = |(host, task, status): &(&'h Host, Stopped, &Status)| {
        Ok(host.look([(task, *status)], 0)?.pop().expect("it was looked at"))
    };
    let seen = match each(tasks.iter().map(look)) {
        Ok(seen) => seen,
        Err((index, error)) => {
            let back = tasks.into_iter().map(|(_, task, _)| Some(task)).collect();
            return (back, Err((index, E::from(error))));
        }
    };
    let borrowed = tasks.into_iter().zip(seen);
    let borrowed = borrowed.map(|((host, task, _), seen)| Borrowed::new(host, task, seen, 0, None));
    let mut borrowed: Vec<_> = borrowed.collect();
    let begun = each(borrowed.iter_mut().map(Borrowed::begin)).and_then(|_| map(&mut borrowed));
    let begun = begun.map_err(|(index, error)| (index, E::from(error)));
    let result = begun.and_then(|()| work(&mut borrowed));
    let mut back = Vec::with_capacity(borrowed.len());
    let mut given = Vec::with_capacity(borrowed.len());
    let unmapped = unmap(&mut borrowed);
    for (one, unmapped) in borrowed.into_iter().zip(unmapped) {
        let (task, result) = one.put_back(unmapped);
        back.push(task);
        given.push(result);
    }
    let given = each(given.into_iter()).map_err(|(index, error)| (index, E::from(error)));
    (back, result.and_then(|done| given.map(|_| done)))
}

/// Has each of the tasks, which are of different processes, make the calls of its batch, all of
/// them at once.
///
/// # Errors
///
/// As [`Borrowed::run`], of the first that fails. All have stopped again.
pub fn run_each(tasks: &mut [Borrowed<'_>], batches: &[Batch]) -> Result<Vec<Replies>, Of<Error>> {
    let put = |(borrowed, batch): (&Borrowed<'_>, &Batch)| {
        scratch::put(borrowed.task().tid(), borrowed.batches(), batch)
    };
    each(tasks.iter().zip(batches).map(put))?;
    let registers: Vec<_> =
        tasks.iter().zip(batches).map(|(borrowed, batch)| borrowed.at_work(batch)).collect();
    let after = each(run(tasks, &registers).into_iter())?;
    let take = |((borrowed, batch), after): ((&Borrowed<'_>, &Batch), &Registers)| {
        let (tid, start) = (borrowed.task().tid(), borrowed.batches().start());
        scratch::take(tid, start, batch, arch::left(after))
    };
    each(tasks.iter().zip(batches).zip(&after).map(take))
}

fn run(tasks: &mut [Borrowed<'_>], registers: &[Registers]) -> Vec<Result<Registers, Error>> {
    let jobs = tasks.iter_mut().zip(registers).map(|(borrowed, at)| borrowed.job(*at));
    session::run_each(jobs.collect())
}

/// Has all of them map memory for batches. Whoever has is known to, whatever came of the others.
fn map(tasks: &mut [Borrowed<'_>]) -> Result<(), Of<Error>> {
    let registers: Vec<_> = tasks.iter().map(Borrowed::mapping).collect();
    let after = run(tasks, &registers);
    let mapped = tasks.iter_mut().zip(registers).zip(after).map(|((borrowed, at), after)| {
        let start = after.and_then(|after| borrowed.booted(&at, &after));
        borrowed.mapped(start)
    });
    let mapped: Vec<_> = mapped.collect();
    each(mapped.into_iter()).map(drop)
}

/// Has all of them unmap it again who have any.
fn unmap(tasks: &mut [Borrowed<'_>]) -> Vec<Result<(), Error>> {
    let registers: Vec<_> = tasks.iter_mut().map(Borrowed::unmapping).collect();
    let jobs = tasks.iter_mut().zip(&registers);
    let jobs = jobs.filter_map(|(borrowed, at)| Some(borrowed.job((*at)?)));
    let mut after = session::run_each(jobs.collect()).into_iter();
    let unmapped = tasks.iter().zip(registers).map(|(borrowed, at)| {
        let Some(at) = at else { return Ok(()) };
        let after = after.next().expect("one for each that ran")?;
        borrowed.booted(&at, &after).map(drop)
    });
    unmapped.collect()
}

/// What came of all, or the first error with its place.
fn each<T>(results: impl Iterator<Item = Result<T, Error>>) -> Result<Vec<T>, Of<Error>> {
    let numbered = results.enumerate();
    numbered.map(|(index, result)| result.map_err(|error| (index, error))).collect()
}
