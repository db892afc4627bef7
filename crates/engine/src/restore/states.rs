//! State and registers of each task.

use std::collections::BTreeMap;

use dormouse_kernel::NsPid;
use dormouse_kernel::signal::{SigSet, Signal};
use dormouse_puppet::{Batch, Resumption};
use dormouse_resources::task::{Cpu, Filters, Numbering};

use super::decode::{Body, Checkpoint, host};
use super::world::World;
use crate::cause::{At, Cause};
use crate::{Error, Phase};

/// Everything that processes and their threads have of their own.
pub(super) fn apply(
    world: &mut World,
    checkpoint: &Checkpoint,
    numbering: Numbering,
) -> Result<(), Error> {
    for (_, body) in checkpoint.living() {
        apply_one(world, body, checkpoint, numbering)?;
    }
    Ok(())
}

/// Everything that a process and its threads have of their own.
fn apply_one(
    world: &mut World,
    body: &Body,
    checkpoint: &Checkpoint,
    numbering: Numbering,
) -> Result<(), Error> {
    const PHASE: Phase = Phase::Threads;
    // Batches of more are not kept in memory.
    const MANY: usize = 64;
    let filters = &checkpoint.filters;
    let dumpable = checkpoint.spaces[&body.space].memory.mm.dumpable;
    let first = body.threads[0].tid;
    let expected = expected(body);
    for thread in body.threads.iter().rev() {
        world.puppet(thread.tid).avoid(expected).of(PHASE, host(thread.tid))?;
    }
    let common = filter_all(world, filters, body).of(PHASE, host(first))?;
    let mut together = Vec::new();
    for thread in body.threads.iter().rev() {
        let mut batch = Batch::new();
        // Puppets are not filtered, and may lose the right to be.
        filters.apply(thread.seccomp, common, &mut batch);
        if thread.tid == first {
            // Before signals that wait: it takes out some of its own.
            body.timers.apply(numbering, &mut batch);
            body.state.apply(&mut batch);
        }
        thread.state.pending.queue(&mut batch);
        if thread.tid == first {
            body.state.limits.set(&mut batch);
        }
        let before = batch.len();
        thread.undo.apply(&mut batch);
        // What others do to a semaphore may not come in between.
        let alone = thread.tid == first || batch.len() > before;
        thread.state.apply(&mut batch);
        if thread.tid == first {
            let dumpable = i32::from(dumpable.as_raw() == 1);
            batch.call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE.into(), dumpable.into()]);
        }
        if alone || together.len() == MANY {
            world.run_together(std::mem::take(&mut together)).of(PHASE, host(first))?;
        }
        if alone {
            world.run(thread.tid, batch).of(PHASE, host(thread.tid))?;
        } else {
            together.push((thread.tid, batch));
        }
    }
    Ok(())
}

/// Puts the filters that all threads of a process have on all of them, and
/// says how many that are.
fn filter_all(world: &mut World, filters: &Filters, body: &Body) -> Result<usize, Cause> {
    let [first, _, ..] = body.threads.as_slice() else { return Ok(0) };
    let seccomp: Vec<_> = body.threads.iter().map(|thread| thread.seccomp).collect();
    let common = filters.in_common(&seccomp);
    if common > 0 {
        let mut batch = Batch::new();
        filters.apply_to_all(first.seccomp, common, &mut batch);
        world.run(first.tid, batch)?;
    }
    Ok(common)
}

/// Signals that will wait for a process or its threads, or that its timers
/// may send at once.
fn expected(body: &Body) -> SigSet {
    let of_threads = body.threads.iter().flat_map(|thread| thread.state.pending.signals());
    let waiting = body.state.pending.signals().iter().chain(of_threads);
    let of_timers = [Signal::ALRM, Signal::VTALRM, Signal::PROF].into_iter();
    let all = waiting.filter_map(|info| info.signal()).chain(of_timers);
    all.fold(SigSet::EMPTY, SigSet::with).union(body.timers.signals())
}

/// Gives all threads their registers.
pub(super) fn set_registers(world: &mut World, checkpoint: &Checkpoint) -> Result<(), Error> {
    let last: BTreeMap<NsPid, NsPid> =
        checkpoint.living().map(|(process, body)| (body.space, process.node.pid)).collect();
    for (process, body) in checkpoint.living() {
        let pid = process.node.pid;
        registers(world, body, last[&body.space] == pid).of(Phase::Threads, host(pid))?;
    }
    Ok(())
}

/// Gives every thread of a process its registers. The first comes last, and unmaps the room
/// if no other process still has it there.
fn registers(world: &mut World, body: &Body, is_last: bool) -> Result<(), Cause> {
    for (index, thread) in body.threads.iter().enumerate().rev() {
        let Cpu { registers, xstate } = &thread.cpu;
        let mask = thread.state.mask.get();
        let resumption = thread
            .interrupted
            .map(|interruption| Resumption { interruption, time_left: thread.time_left });
        let puppet = world.take(thread.tid);
        let vacate = is_last && index == 0;
        let mut task = puppet.become_program((registers, xstate), mask, resumption, vacate)?;
        thread.areas.set(&mut task)?;
        thread.dispatch.set(&mut task)?;
        world.put_ready(task);
    }
    Ok(())
}
