//! State and registers of each task.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_kernel::NsPid;
use dormouse_kernel::ptrace::Registers;
use dormouse_kernel::signal::{SigSet, Signal};
use dormouse_puppet::{Batch, Resumption};
use dormouse_resources::task::{Cpu, Filters, Numbering};

use super::decode::{Body, Checkpoint, Process, Thread, host};
use super::overlap::Overlap;
use super::tables;
use super::world::World;
use crate::cause::{At, Cause};
use crate::{Error, Phase};

const PHASE: Phase = Phase::Threads;

/// Everything that processes and their threads have of their own.
pub(super) fn apply(
    world: &mut World,
    checkpoint: &Checkpoint,
    numbering: Numbering,
) -> Result<(), Error> {
    let closers = tables::closers(checkpoint);
    let mut overlap = Overlap::new(world, PHASE);
    for (_, body) in checkpoint.living() {
        apply_one(&mut overlap, body, checkpoint, (numbering, &closers))?;
    }
    overlap.finish()
}

/// Everything that a process and its threads have of their own. They give up the link to dormouse.
fn apply_one(
    overlap: &mut Overlap<'_>,
    body: &Body,
    checkpoint: &Checkpoint,
    (numbering, closers): (Numbering, &BTreeSet<NsPid>),
) -> Result<(), Error> {
    // Batches of more are not kept in memory.
    const MANY: usize = 64;
    let filters = &checkpoint.filters;
    let dumpable = checkpoint.spaces[&body.space].memory.mm.dumpable;
    let first = body.threads[0].tid;
    let link = overlap.link();
    let world = overlap.world_for(first)?;
    let expected = expected(body);
    for thread in body.threads.iter().rev() {
        world.puppet(thread.tid).avoid(expected).of(PHASE, host(thread.tid))?;
    }
    let common = filter_all(world, filters, body).of(PHASE, host(first))?;
    let mut together = Vec::new();
    for thread in body.threads.iter().rev() {
        let mut batch = Batch::new();
        if closers.contains(&thread.tid) {
            batch.call(libc::SYS_close, [link.into()]);
        }
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
        let alone = batch.len() > before;
        thread.state.apply(&mut batch);
        if thread.tid == first {
            let dumpable = i32::from(dumpable.as_raw() == 1);
            batch.call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE.into(), dumpable.into()]);
        }
        if alone || thread.tid == first || together.len() == MANY {
            let world = overlap.world_for(first)?;
            world.run_together(std::mem::take(&mut together)).of(PHASE, host(first))?;
        }
        if alone {
            overlap.world()?.run(thread.tid, batch).of(PHASE, host(thread.tid))?;
        } else if thread.tid == first {
            overlap.run(thread.tid, batch);
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

/// Gives all threads their registers. The last task of an address space unmaps the room before.
pub(super) fn set_registers(world: &mut World, checkpoint: &Checkpoint) -> Result<(), Error> {
    // Processes of which tasks unmap their rooms at the same time.
    const AT_ONCE: usize = 16;
    let last: BTreeMap<NsPid, NsPid> =
        checkpoint.living().map(|(process, body)| (body.space, process.node.pid)).collect();
    let living: Vec<_> = checkpoint.living().collect();
    for some in living.chunks(AT_ONCE) {
        let tasks = || some.iter().flat_map(|(_, body)| body.threads.iter().rev());
        let mut all = Vec::new();
        for thread in tasks() {
            let Cpu { registers, .. } = &thread.cpu;
            let registers = match thread.interrupted {
                None => *registers,
                Some(interruption) => {
                    let resumption = Resumption { interruption, time_left: thread.time_left };
                    let puppet = world.puppet(thread.tid);
                    puppet.resume_call(registers, resumption).of(PHASE, host(thread.tid))?
                }
            };
            all.push(registers);
        }
        let is_last = |(process, body): &&(&Process, &Body)| last[&body.space] == process.node.pid;
        let leaving = some.iter().filter(is_last).map(|(_, body)| body.threads[0].tid);
        let leaving: BTreeSet<NsPid> = leaving.collect();
        world.vacate(&leaving).at(PHASE)?;
        for (thread, registers) in tasks().zip(&all) {
            become_program(world, thread, registers).of(PHASE, host(thread.tid))?;
        }
    }
    Ok(())
}

fn become_program(world: &mut World, thread: &Thread, registers: &Registers) -> Result<(), Cause> {
    let puppet = world.take(thread.tid);
    let mask = thread.state.mask.get();
    let mut task = puppet.become_program((registers, &thread.cpu.xstate), mask)?;
    thread.areas.set(&mut task)?;
    thread.dispatch.set(&mut task)?;
    world.put_ready(task);
    Ok(())
}
