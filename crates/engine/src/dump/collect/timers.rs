//! Timers, which run on while everything else stands still.

use std::time::Instant;

use dormouse_kernel::ptrace::Stopped;
use dormouse_puppet::{Batch, Host};
use dormouse_resources::task::{
    IntervalTimers, PosixTimers, ProcessPending, ProcessState, Property, ThreadClocks,
    ThreadPending,
};

use super::Thread;
use crate::cause::Cause;
use crate::dump::enumerate::Census;
use crate::dump::frozen::Process;

/// Reads timers, and once more the signals that wait: so that a timer which
/// expires meanwhile is taken either for one that still runs or for one whose
/// signal is there, and not for both.
pub(super) fn settle(
    process: &mut Process,
    census: &Census,
    (host, clocks): (&Host, &ThreadClocks),
    (state, threads): (&mut ProcessState, &mut [Thread]),
) -> Result<PosixTimers, Cause> {
    // Timers that expire faster than they can be read will not settle.
    const TRIES: usize = 16;
    let timers = process.proc.timers()?;
    let tids = process.threads.iter().map(Stopped::tid).collect();
    let mut posix = PosixTimers::default();
    for _ in 0..TRIES {
        if timers.is_empty() && state.interval_timers.soonest().is_none() {
            break;
        }
        let begun = Instant::now();
        let first = process.threads.remove(0);
        let status = &census.status[&first.tid()];
        let (first, read) = host.borrow(first, status, |puppet| {
            let mut batch = Batch::new();
            let interval = IntervalTimers::ask(&mut batch);
            let interval = IntervalTimers::read(&puppet.run(batch)?, interval);
            let mut posix = PosixTimers::default();
            for timers in timers.chunks(PosixTimers::AT_ONCE) {
                let mut batch = Batch::new();
                let asked = PosixTimers::ask(timers, &mut batch);
                let answers = (&puppet.run(batch)?, &asked);
                posix.collect(process.pid, timers, &tids, answers, clocks)?;
            }
            Ok::<_, Cause>((interval, posix))
        });
        process.threads.splice(0..0, first);
        (state.interval_timers, posix) = read?;
        state.pending = ProcessPending::peek(&process.threads[0])?;
        for (thread, task) in threads.iter_mut().zip(&process.threads) {
            thread.state.pending = ThreadPending::peek(task)?;
        }
        let soonest = [state.interval_timers.soonest(), posix.soonest()].into_iter().flatten();
        if soonest.min().is_none_or(|soonest| soonest > begun.elapsed()) {
            break;
        }
    }
    Ok(posix)
}
