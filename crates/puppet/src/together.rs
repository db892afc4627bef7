//! Puppets that share their memory, at work at the same time.
//!
//! What they would do one after the other with a stop each, and nothing else
//! running meanwhile, they do on all processors, and their batches and replies are
//! moved by one call.

use dormouse_kernel::AddrRange;

use crate::arch;
use crate::bare::Bare;
use crate::{Batch, Error, scratch, session};

/// More at once are not done sooner.
const MOST: usize = 32;

/// Has puppets of one process make the calls of a batch each, in no order. All have
/// stopped again afterwards.
///
/// # Errors
///
/// [`Error::Call`] names a call that failed and must not.
pub fn run_together(tasks: Vec<(&mut Bare, Batch)>) -> Result<(), Error> {
    let mut tasks = tasks.into_iter().peekable();
    while let Some((first, batch)) = tasks.next() {
        let room = first.batches();
        let mut rest = room;
        let mut some: Vec<(&mut Bare, AddrRange, Batch)> = Vec::new();
        let mut next = Some((first, batch));
        while let Some((bare, batch)) = next.take() {
            let size = batch.size().next_multiple_of(8) as u64;
            // What is too large for all of it is refused as such.
            let place = AddrRange::with_len(rest.start(), size.min(rest.len())).unwrap_or(rest);
            rest = AddrRange::new(place.end(), rest.end()).unwrap_or(rest);
            some.push((bare, place, batch));
            next = tasks.next_if(|(_, batch)| {
                some.len() < MOST && batch.size().next_multiple_of(8) as u64 <= rest.len()
            });
        }
        run_some(some)?;
    }
    Ok(())
}

fn run_some(mut some: Vec<(&mut Bare, AddrRange, Batch)>) -> Result<(), Error> {
    let Some(any) = some.first().map(|(bare, ..)| bare.tid()) else { return Ok(()) };
    let places: Vec<_> = some.iter().map(|(_, place, batch)| (*place, batch)).collect();
    scratch::put_all(any, &places)?;
    let jobs = some.iter_mut().map(|(bare, place, batch)| {
        let registers = arch::walk(&bare.place, &bare.base, place.start(), batch.len() as u64);
        let Bare { tid, task, place, held, .. } = &mut **bare;
        session::Job { tid: *tid, task, place, registers, held }
    });
    let after = session::run_at_once(jobs.collect())?;
    for ((bare, place, batch), after) in some.iter().zip(&after) {
        let left = arch::left(after);
        // Whoever has made all its calls has nothing to tell but the log.
        if left > 0 || scratch::is_told() {
            scratch::take(bare.tid, place.start(), batch, left)?;
        }
    }
    Ok(())
}
