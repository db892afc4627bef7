//! Work on many things that takes no tracer, done on all processors.

use std::num::NonZero;
use std::sync::LazyLock;
use std::thread;

/// More threads gain nothing where the kernel does most of the work.
const MOST: usize = 8;
/// As many as there are processors for this process: asking for that takes files.
static THREADS: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, NonZero::get).min(MOST));
/// So few are done before another thread has begun.
const FEW: usize = 32;

/// Does `work` on each of the things, and gives what came of it, in their order.
pub(crate) fn each<T: Sync, R: Send>(things: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    each_in_parts(things, FEW, work)
}

/// The same for work that takes longer than another thread takes to begin.
pub(crate) fn each_long<T: Sync, R: Send>(things: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    each_in_parts(things, 1, work)
}

/// The same for a few things, for each of which there are `many` to look at.
pub(crate) fn each_if<T: Sync, R: Send>(
    many: usize,
    things: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    each_in_parts(things, if many > FEW { 1 } else { things.len() }, work)
}

fn each_in_parts<T: Sync, R: Send>(
    things: &[T],
    few: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    if things.len() <= few {
        return things.iter().map(work).collect();
    }
    let part = things.len().div_ceil(*THREADS).max(few);
    let (own, others) = things.split_at(part.min(things.len()));
    let do_part = |part: &[T]| part.iter().map(&work).collect::<Vec<R>>();
    thread::scope(|scope| {
        let others: Vec<_> =
            others.chunks(part).map(|part| scope.spawn(move || do_part(part))).collect();
        let mut done = do_part(own);
        for other in others {
            match other.join() {
                Ok(part) => done.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::{each, each_long};

    #[test]
    fn results_are_in_order() {
        for count in [0, 1, 2, 31, 33, 1000] {
            let things: Vec<usize> = (0..count).collect();
            let doubled: Vec<_> = (0..count).map(|n| n * 2).collect();
            assert_eq!(each(&things, |thing| thing * 2), doubled);
            assert_eq!(each_long(&things, |thing| thing * 2), doubled);
        }
    }
}
