//! Who forks whom, sessions and process groups.

use dormouse_kernel::NsPid;
use dormouse_puppet::Batch;
use dormouse_resources::file::CreateCx;
use tracing::debug;

use super::decode::host;
use super::endings::dismiss;
use super::memory::Memory;
use super::plan::Plan;
use super::spawn_plan::Step;
use super::terminals::{self, Terminals};
use super::world::World;
use crate::cause::At;
use crate::{Error, Phase};

/// Forks the tree, with all threads, and makes its sessions. Who is to inherit
/// memory is made when it is there.
pub(super) fn spawn(
    world: &mut World,
    root: NsPid,
    plan: &Plan,
    (memory, cx): (&mut Memory<'_>, &mut CreateCx<'_>),
    terminals: &Terminals<'_>,
) -> Result<(), Error> {
    let make = |world: &mut World, process: NsPid| {
        for (maker, births) in plan.births.of(process) {
            world.multiply(maker, births).of(Phase::Spawn, host(process))?;
        }
        Ok(())
    };
    make(world, root)?;
    for step in &plan.steps {
        match *step {
            Step::Fork { maker, child, .. } => {
                debug!(maker, child, "fork");
                if memory.inherits(pid(child)) {
                    memory.prepare(pid(maker), world, cx)?;
                }
                make(world, pid(child))?;
            }
            Step::SetSid(leader) => {
                let mut batch = Batch::new();
                batch.call(libc::SYS_setsid, []);
                let leader = pid(leader);
                world.run(leader, batch).of(Phase::Spawn, host(leader))?;
                terminals::take(world, leader, terminals).of(Phase::Spawn, host(leader))?;
            }
            Step::Adopt { helper, parent, adopter } => {
                let (helper, parent, adopter) = (pid(helper), pid(parent), pid(adopter));
                subreaper(world, adopter, true)?;
                dismiss(world, helper, parent)?;
                subreaper(world, adopter, false)?;
            }
            Step::SetPgid { .. } | Step::Dismiss { .. } => {}
        }
    }
    Ok(())
}

/// Makes a process one that orphans below it are given to, or not any more.
fn subreaper(world: &mut World, process: NsPid, is: bool) -> Result<(), Error> {
    let mut batch = Batch::new();
    batch.call(libc::SYS_prctl, [libc::PR_SET_CHILD_SUBREAPER.into(), i32::from(is).into()]);
    world.run(process, batch).of(Phase::Spawn, host(process))?;
    Ok(())
}

/// Process groups, once everybody who is in one exists.
pub(super) fn groups(world: &mut World, plan: &Plan) -> Result<(), Error> {
    for step in &plan.steps {
        match *step {
            Step::Fork { .. } | Step::SetSid(_) | Step::Adopt { .. } => {}
            Step::SetPgid { pid: member, pgid } => {
                let mut batch = Batch::new();
                batch.call(libc::SYS_setpgid, [0.into(), pgid.into()]);
                world.run(pid(member), batch).of(Phase::Threads, host(pid(member)))?;
            }
            Step::Dismiss { pid: stand_in, parent } => {
                dismiss(world, pid(stand_in), pid(parent))?;
            }
        }
    }
    Ok(())
}

fn pid(raw: i32) -> NsPid {
    NsPid::from_raw(raw).expect("plans are made of pids")
}
