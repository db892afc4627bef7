//! Who forks whom, sessions and process groups.

use dormouse_kernel::NsPid;
use dormouse_puppet::Batch;
use dormouse_resources::file::CreateCx;
use tracing::debug;

use super::births::Birth;
use super::decode::host;
use super::endings::dismiss;
use super::memory::Memory;
use super::plan::Plan;
use super::spawn_plan::Step;
use super::terminals::{self, Terminals};
use super::world::World;
use crate::cause::At;
use crate::{Error, Phase};

/// So many are made at once at most.
const AT_ONCE: usize = 256;

/// Forks the tree, with all threads, and makes its sessions. Who is to inherit
/// memory is made when it is there.
pub(super) fn spawn(
    world: &mut World,
    root: NsPid,
    plan: &Plan,
    (memory, cx): (&mut Memory<'_>, &mut CreateCx<'_>),
    terminals: &Terminals<'_>,
) -> Result<(), Error> {
    multiply(world, plan.births.of(root))?;
    let mut steps = &plan.steps[..];
    while let Some((step, rest)) = steps.split_first() {
        steps = rest;
        match *step {
            Step::Fork { maker, child, .. } => {
                debug!(maker, child, "fork");
                let inherits = memory.inherits(pid(child));
                if inherits {
                    memory.prepare(pid(maker), world, cx)?;
                }
                // Whoever makes several, one after the other, does so at once.
                let first = plan.births.maker_of(pid(child));
                let mut children = vec![pid(child)];
                while let Some((&Step::Fork { child, .. }, rest)) = steps.split_first() {
                    let next = pid(child);
                    let alike = first.is_some() && plan.births.maker_of(next) == first;
                    if !alike || memory.inherits(next) != inherits || children.len() == AT_ONCE {
                        break;
                    }
                    debug!(maker, child, "fork");
                    children.push(next);
                    steps = rest;
                }
                let mut births: Vec<_> =
                    children.iter().map(|&child| plan.births.of(child)).collect();
                let themselves = births.iter_mut().filter_map(Iterator::next);
                let themselves: Vec<_> = themselves.collect();
                if let Some(&(maker, _)) = themselves.first() {
                    let all: Vec<_> =
                        themselves.iter().flat_map(|(_, births)| *births).copied().collect();
                    multiply(world, [(maker, &all[..])])?;
                }
                for threads in births {
                    multiply(world, threads)?;
                }
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

/// Has each of these make tasks.
fn multiply<'b>(
    world: &mut World,
    births: impl IntoIterator<Item = (NsPid, &'b [Birth])>,
) -> Result<(), Error> {
    for (maker, births) in births {
        if let Err((process, cause)) = world.multiply(maker, births) {
            return Err(cause).of(Phase::Spawn, host(process));
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
