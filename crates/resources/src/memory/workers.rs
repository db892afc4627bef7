//! Threads that move memory.
//!
//! Jobs are numbered; whoever is free takes the next one. The calling thread works along, so one
//! job costs no thread at all.

use std::num::NonZero;
use std::ops::{ControlFlow, Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use dormouse_kernel::PAGE_SIZE;
use dormouse_kernel::remote_memory::MAX_PIECES;

use super::error::{Error, Result};

/// More threads than this never move memory: copying gains nothing from more than a few.
pub const MOST_THREADS: usize = 8;

/// How many threads it pays to have.
pub(super) fn threads() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS)
}

/// So few jobs are done before another thread has begun.
const FEW: usize = 4;

/// Does jobs 0 to `jobs`, exclusively, on several threads. `work` gets what `begin` made for its
/// thread; it returns the bytes it moved, which `progress` hears of (on the calling thread).
///
/// # Errors
///
/// The first one, or [`Error::Abandoned`] if `progress` wants no more. No further job is begun
/// then.
pub(super) fn run<T>(
    jobs: usize,
    begin: impl Fn() -> T + Sync,
    work: impl Fn(&mut T, usize) -> Result<u64> + Sync,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let bytes = AtomicU64::new(0);
    let labour = |tell: &mut dyn FnMut(u64) -> ControlFlow<()>| {
        let mut own = begin();
        while !failed.load(Ordering::Relaxed) {
            let job = next.fetch_add(1, Ordering::Relaxed);
            if job >= jobs {
                break;
            }
            let done = work(&mut own, job).and_then(|moved| {
                match tell(bytes.fetch_add(moved, Ordering::Relaxed) + moved) {
                    ControlFlow::Continue(()) => Ok(()),
                    ControlFlow::Break(()) => Err(Error::Abandoned),
                }
            });
            if done.is_err() {
                failed.store(true, Ordering::Relaxed);
                return done;
            }
        }
        Ok(())
    };
    let labour = &labour;
    let helpers = if jobs <= FEW { 0 } else { threads().min(jobs) - 1 };
    let mut told = 0;
    let result = thread::scope(|scope| {
        let helpers: Vec<_> = (0..helpers)
            .map(|_| scope.spawn(move || labour(&mut |_| ControlFlow::Continue(()))))
            .collect();
        let own = labour(&mut |total| {
            // Another thread may have told a later total already.
            if total <= told {
                return ControlFlow::Continue(());
            }
            let more = total - told;
            told = total;
            progress(more)
        });
        let results = helpers.into_iter().map(|helper| match helper.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        // All threads are joined, whatever the first says.
        results.fold(own, |first, result| first.and(result))
    });
    let total = bytes.into_inner();
    if result.is_ok() && total > told {
        // All is done, so there is nothing left to abandon.
        let _ = progress(total - told);
    }
    result
}

/// Moved at once: enough that a system call does not count, little enough that what was read is
/// still in the processor's cache when it is written.
pub(super) const CHUNK: u64 = 256 << 10;

/// Room for a chunk, at the beginning of a page. Copying whole pages to a place a few bytes into one
/// takes three times as long: what is stored then seems to be what is loaded next, by the lower bits
/// of its address.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Default for Buffer {
    fn default() -> Self {
        let bytes = vec![0; CHUNK as usize + PAGE_SIZE as usize];
        let start = bytes.as_ptr().align_offset(PAGE_SIZE as usize);
        Self { bytes, start }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..][..CHUNK as usize]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..CHUNK as usize]
    }
}

/// Some of the bytes of a list of pieces: `bytes` from `skip` bytes into piece `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) first: usize,
    pub(super) skip: u64,
    pub(super) bytes: u64,
}

impl Chunk {
    /// Cuts pieces of these lengths in bytes into chunks, of which none takes more than
    /// [`CHUNK`] bytes and [`MAX_PIECES`] pieces.
    pub(super) fn cut(lens: impl Iterator<Item = u64>) -> Vec<Self> {
        let mut chunks = Vec::new();
        let mut chunk = Self { first: 0, skip: 0, bytes: 0 };
        let mut taken = 0;
        for (first, len) in lens.enumerate() {
            let mut skip = 0;
            while skip < len {
                if chunk.bytes == CHUNK || taken == MAX_PIECES {
                    chunks.push(chunk);
                    (chunk, taken) = (Self { first, skip, bytes: 0 }, 0);
                }
                let part = (len - skip).min(CHUNK - chunk.bytes);
                (chunk.bytes, taken, skip) = (chunk.bytes + part, taken + 1, skip + part);
            }
        }
        if chunk.bytes > 0 {
            chunks.push(chunk);
        }
        chunks
    }

    /// The parts of `pieces` in the chunk: number, bytes to skip and length.
    pub(super) fn parts<T>(
        self,
        pieces: &[T],
        len: impl Fn(&T) -> u64,
    ) -> impl Iterator<Item = (usize, u64, u64)> {
        let Self { first, mut skip, bytes: mut left } = self;
        pieces.iter().enumerate().skip(first).map_while(move |(number, piece)| {
            if left == 0 {
                return None;
            }
            let part = (len(piece) - skip).min(left);
            let result = (number, skip, part);
            (skip, left) = (0, left - part);
            Some(result)
        })
    }
}

/// A gate that jobs pass in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Turnstile<T> {
    state: Mutex<Turn<T>>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Turn<T> {
    next: usize,
    broken: bool,
    inner: T,
}

impl<T> Turnstile<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { state: Mutex::new(Turn { next: 0, broken: false, inner }), moved: Condvar::new() }
    }

    /// Waits until all jobs before `job` have passed, and passes. `None` if one of them never
    /// will: [`Turnstile::break_down`].
    pub(super) fn pass<R>(&self, job: usize, at_gate: impl FnOnce(&mut T) -> R) -> Option<R> {
        let mut turn = self.lock();
        while turn.next < job && !turn.broken {
            turn = self.moved.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
        if turn.broken {
            return None;
        }
        let result = at_gate(&mut turn.inner);
        turn.next = job + 1;
        drop(turn);
        self.moved.notify_all();
        Some(result)
    }

    /// Lets nobody pass any more.
    pub(super) fn break_down(&self) {
        self.lock().broken = true;
        self.moved.notify_all();
    }

    pub(super) fn into_inner(self) -> T {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).inner
    }

    fn lock(&self) -> MutexGuard<'_, Turn<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::memory::Error;
    use crate::memory::Obstacle;
    use dormouse_kernel::{Addr, AddrRange, HostPid};

    fn failure(job: usize) -> Error {
        Error::Unsupported {
            pid: HostPid::from_raw(1).unwrap(),
            range: AddrRange::with_len(Addr::NULL, job as u64).unwrap(),
            name: "".into(),
            obstacle: Obstacle::Unknown,
        }
    }

    #[test]
    fn every_job_is_done_once_and_passes_in_order() {
        let done = Turnstile::new(Vec::new());
        let mut told = 0;
        let work = |_: &mut (), job| {
            done.pass(job, |order| order.push(job));
            Ok(job as u64)
        };
        let mut tell = |bytes| {
            told += bytes;
            ControlFlow::Continue(())
        };
        run(1000, || (), work, &mut tell).unwrap();
        assert_eq!(told, 999 * 1000 / 2);
        assert_eq!(done.into_inner(), (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_failure_ends_all_and_nobody_waits_for_ever() {
        let gate = Turnstile::new(());
        let begun = Mutex::new(0);
        let work = |_: &mut (), job| {
            *begun.lock().unwrap() += 1;
            if job == 10 {
                gate.break_down();
                return Err(failure(job));
            }
            gate.pass(job, |()| ());
            Ok(0)
        };
        let error = run(1_000_000, || (), work, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(error, Error::Unsupported { range, .. } if range.len() == 10));
        assert!(*begun.lock().unwrap() < 1_000_000);
    }

    #[test]
    fn what_nobody_wants_any_more_ends() {
        let gate = Turnstile::new(());
        let work = |_: &mut (), job| {
            gate.pass(job, |()| ());
            Ok(1)
        };
        let error = run(1_000_000, || (), work, &mut |_| ControlFlow::Break(())).unwrap_err();
        assert!(matches!(error, Error::Abandoned));
    }
}
