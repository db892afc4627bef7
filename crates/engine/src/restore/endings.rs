//! Those that are not to run: stand-ins, zombies, leaders that have ended,
//! and those that job control has stopped.

use dormouse_kernel::NsPid;
use dormouse_kernel::signal::{SigSet, Signal};
use dormouse_puppet::{Batch, Ending};
use dormouse_resources::task::{Life, Property};

use super::decode::{Checkpoint, Process, host};
use super::world::World;
use crate::cause::{At, Cause};
use crate::{Error, Phase};

/// Ends a process that stands for nobody, or not any more.
pub(super) fn dismiss(world: &mut World, process: NsPid, parent: NsPid) -> Result<(), Error> {
    let of = host(process);
    world.take(process).end(Ending::Exit(0)).of(Phase::Threads, of)?;
    let mut batch = Batch::new();
    batch.call(libc::SYS_wait4, [process.as_raw().into(), 0.into(), 0.into(), 0.into()]);
    world.run(parent, batch).of(Phase::Threads, of)?;
    forget_child(world, parent, Signal::CHLD).of(Phase::Threads, of)
}

/// Ends those that are to be zombies, children before their parents.
pub(super) fn zombies(world: &mut World, checkpoint: &Checkpoint) -> Result<(), Error> {
    for process in checkpoint.processes.iter().rev() {
        let Life::Zombie { status } = process.life else { continue };
        let pid = process.node.pid;
        let ending = match Signal::from_raw((status & 0x7f).cast_signed()) {
            Some(signal) => Ending::Signal(signal),
            None => Ending::Exit((status >> 8 & 0xff) as u8),
        };
        let mut batch = Batch::new();
        name(process, &mut batch);
        if let Some(remains) = &process.remains {
            remains.apply(&mut batch);
        }
        // If it has left a core, that is there already.
        batch.call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE.into(), 0.into()]);
        world.run(pid, batch).of(Phase::Threads, host(pid))?;
        let told = process.node.parent.zip(process.exit_signal);
        if let Some((parent, signal)) = told {
            // It is not to be taken for the end of a batch.
            let others = checkpoint.living().filter(|(other, _)| other.node.pid == parent);
            for thread in others.flat_map(|(_, body)| &body.threads) {
                let avoided = SigSet::EMPTY.with(signal);
                world.puppet(thread.tid).avoid(avoided).of(Phase::Threads, host(parent))?;
            }
        }
        world.take(pid).end(ending).of(Phase::Threads, host(pid))?;
        if let Some((parent, signal)) = told {
            forget_child(world, parent, signal).of(Phase::Threads, host(parent))?;
        }
    }
    Ok(())
}

/// Has first threads end whose processes go on without them.
pub(super) fn leaders(world: &mut World, checkpoint: &Checkpoint) -> Result<(), Error> {
    for (process, body) in checkpoint.living() {
        let Some(code) = body.leader_code else { continue };
        let of = host(process.node.pid);
        let mut batch = Batch::new();
        name(process, &mut batch);
        match &process.remains {
            Some(remains) => remains.apply(&mut batch),
            // They decide who may send signals to the process.
            None => body.threads[0].state.credentials.apply(&mut batch),
        }
        world.run(process.node.pid, batch).of(Phase::Threads, of)?;
        world.take(process.node.pid).end_thread(code).of(Phase::Threads, of)?;
    }
    Ok(())
}

/// Gives the task that runs the batch the name of a process.
fn name(process: &Process, batch: &mut Batch) {
    let mut name = [0; 16];
    let len = process.name.len().min(15);
    name[..len].copy_from_slice(&process.name.as_bytes()[..len]);
    let name = batch.data(&name);
    batch.call(libc::SYS_prctl, [libc::PR_SET_NAME.into(), name.into()]);
}

/// Has job control stop those that it held, while they still handle no
/// signals. That they run on as puppets changes nothing for anybody else, and
/// when they are let go they stay where they are.
pub(super) fn stops(world: &mut World, checkpoint: &Checkpoint) -> Result<(), Error> {
    const PHASE: Phase = Phase::Threads;
    for (process, body) in checkpoint.living() {
        let Life::Stopped(signal) = process.life else { continue };
        let (pid, first) = (process.node.pid, body.threads[0].tid);
        // No signal but this one stops an orphaned process group.
        if !world.puppet(first).stop_by(signal).of(PHASE, host(pid))? {
            world.puppet(first).stop_by(Signal::STOP).of(PHASE, host(pid))?;
        }
        // The process has stopped when all its threads have.
        for thread in &body.threads[1..] {
            world.run(thread.tid, Batch::new()).of(PHASE, host(thread.tid))?;
        }
        let Some(parent) = process.node.parent else { continue };
        if process.stop_seen {
            let options = libc::WSTOPPED | libc::WNOHANG | libc::__WALL;
            let mut batch = Batch::new();
            let args =
                [libc::P_PID.into(), pid.as_raw().into(), 0.into(), options.into(), 0.into()];
            batch.call(libc::SYS_waitid, args);
            world.run(parent, batch).of(PHASE, host(parent))?;
        }
        forget_child(world, parent, Signal::CHLD).of(PHASE, host(parent))?;
    }
    Ok(())
}

/// Has job control stop those for a moment whose parents have still to be told that they go on, while
/// they still handle no signals.
pub(super) fn continuations(world: &mut World, checkpoint: &Checkpoint) -> Result<(), Error> {
    const PHASE: Phase = Phase::Threads;
    for (process, body) in checkpoint.living().filter(|(process, _)| process.continued) {
        let (pid, first) = (process.node.pid, body.threads[0].tid);
        let Some(parent) = process.node.parent else { continue };
        let others = |world: &mut World| {
            let mut others = body.threads[1..].iter();
            others.try_for_each(|thread| {
                world.run(thread.tid, Batch::new()).of(PHASE, host(thread.tid)).map(drop)
            })
        };
        world.puppet(first).stop_by(Signal::STOP).of(PHASE, host(pid))?;
        others(world)?;
        world.puppet(first).go_on().of(PHASE, host(pid))?;
        others(world)?;
        forget_child(world, parent, Signal::CHLD).of(PHASE, host(parent))?;
    }
    Ok(())
}

/// Takes the signal back that a parent got for a child which ended here and
/// not in its program.
pub(super) fn forget_child(world: &mut World, parent: NsPid, signal: Signal) -> Result<(), Cause> {
    let mut batch = Batch::new();
    let set = batch.data(&SigSet::EMPTY.with(signal).as_raw().to_ne_bytes());
    let none = batch.data(&[0; 16]);
    batch.may_fail(
        libc::SYS_rt_sigtimedwait,
        [set.into(), 0.into(), none.into(), (size_of::<SigSet>() as u64).into()],
    );
    world.run(parent, batch)?;
    Ok(())
}
