//! What a restore will create, where and in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use dormouse_kernel::features::Probe;
use dormouse_kernel::proc::{Limits, ProcDir};
use dormouse_kernel::rlimit::Resource;
use dormouse_kernel::{Addr, AddrRange, HostPid, NsPid};
use dormouse_resources::memory::Vma;
use dormouse_resources::task::{Inheritance, Numbering, SemaphoreUndo};

use super::births::Births;
use super::decode::{Checkpoint, Process, Space, host};
use super::holder::taken;
use super::keyrings;
use super::memory::Lineage;
use super::spawn_plan::{self, Node, Outside, Step};
use crate::cause::{At, Cause};
use crate::landlock;
use crate::{Error, Phase, RestoreOptions};

/// The plan of a restore. `Display` shows it to people.
#[derive(Debug)]
pub struct Plan {
    /// Forks and sessions, in order.
    pub(super) steps: Vec<Step>,
    /// How each of them is made, with its threads.
    pub(super) births: Births,
    /// Where puppets have their code and batches.
    pub(super) room: AddrRange,
    /// The descriptor by which puppets reach dormouse.
    pub(super) link: u32,
    /// How the numbers of timers can be had.
    pub(super) numbering: Numbering,
    /// How tasks come to their keyrings.
    pub(super) keyrings: keyrings::Plan,
    /// Bytes of memory that are stored.
    bytes: u64,
    nodes: Vec<Node>,
    outside: Outside,
    lines: Vec<String>,
}

/// Memory for batches, in bytes; none of it is touched unless it is needed.
const ROOM: u64 = 64 << 20;

impl Plan {
    /// Makes it, and checks what can be checked before anything is created.
    pub(super) fn make(checkpoint: &Checkpoint, options: &RestoreOptions) -> Result<Self, Error> {
        const PHASE: Phase = Phase::Plan;
        // Zero stands for a group or session outside of this pid namespace.
        let own = ProcDir::of_self().and_then(|dir| dir.stat()).at(PHASE)?;
        let number = |pid: Option<HostPid>| pid.map_or(0, HostPid::as_raw);
        let outside = Outside { sid: number(own.session), pgid: number(own.pgrp) };
        let nodes: Vec<Node> = nodes(checkpoint, outside, options.shell_job);
        let steps = spawn_plan::plan(&nodes, outside, |_| false, spare(checkpoint)).at(PHASE)?;
        let births = Births::plan(&checkpoint.processes, &steps)?;
        check_pids(checkpoint, &steps)?;
        let tables = checkpoint.tables.values().flat_map(|table| &table.entries);
        let numbers = tables.map(|descriptor| descriptor.fd.as_raw());
        let numbers = numbers.chain(checkpoint.signal_items.iter().map(|item| item.number));
        let own = ProcDir::of_self().and_then(|dir| dir.limits()).at(PHASE)?;
        let link = unused(&numbers.collect(), own.get(Resource::Files).soft);
        let spaces = || checkpoint.spaces.values().map(|space| &space.memory);
        let bytes = spaces().map(|memory| memory.pages() * dormouse_kernel::PAGE_SIZE).sum();
        let room = room(spaces().flat_map(|memory| &memory.mm.vmas)).at(PHASE)?;
        let numbering = numbering(checkpoint)?;
        check_limits(checkpoint, &own)?;
        check_inheritance(checkpoint)?;
        let keyrings = keyrings::plan(checkpoint, options.shell_job)?;
        let threads = checkpoint.living().flat_map(|(_, body)| &body.threads);
        SemaphoreUndo::check(threads.map(|thread| &thread.undo)).at(PHASE)?;
        let lines =
            checkpoint.processes.iter().map(|process| line(process, &checkpoint.spaces)).collect();
        Ok(Self { steps, births, room, link, numbering, keyrings, bytes, nodes, outside, lines })
    }

    /// Puts off the births of those who are to inherit memory of whoever forks
    /// them, as far as sessions allow and as it changes nothing of who forks
    /// whom.
    pub(super) fn put_off(
        &mut self,
        checkpoint: &Checkpoint,
        inherits: impl Fn(NsPid) -> bool,
    ) -> Result<(), Error> {
        let inherits = |pid| NsPid::from_raw(pid).is_some_and(&inherits);
        let spare = spare(checkpoint);
        let steps = spawn_plan::plan(&self.nodes, self.outside, inherits, spare).at(Phase::Plan)?;
        let before = Lineage::of(checkpoint, &self.steps);
        if Lineage::of(checkpoint, &steps).is_like(&before) {
            self.births = Births::plan(&checkpoint.processes, &steps)?;
            self.steps = steps;
        }
        Ok(())
    }
}

/// How the numbers of timers can be had, if all of them can.
fn numbering(checkpoint: &Checkpoint) -> Result<Numbering, Error> {
    let numbering = if Probe::TimerRestoreIds.state().is_yes() {
        Numbering::Chosen
    } else {
        Numbering::Counted
    };
    for process in &checkpoint.processes {
        let Some(body) = &process.body else { continue };
        body.timers.check(numbering).of(Phase::Plan, host(process.node.pid))?;
    }
    Ok(numbering)
}

/// Limits that could not be given would fail when everything else is done.
fn check_limits(checkpoint: &Checkpoint, own: &Limits) -> Result<(), Error> {
    let raise = Probe::CapSysResource.state().is_yes();
    for process in &checkpoint.processes {
        let Some(body) = &process.body else { continue };
        body.state.limits.check(own, raise).of(Phase::Plan, host(process.node.pid))?;
    }
    Ok(())
}

/// So would threads be that cannot come from dormouse as it was started.
fn check_inheritance(checkpoint: &Checkpoint) -> Result<(), Error> {
    let own = ProcDir::of_self().and_then(|dir| dir.status()).at(Phase::Plan)?;
    let in_domain = landlock::of_self().map_err(Cause::from).at(Phase::Plan)?;
    let own = Inheritance::of_self(&own, in_domain);
    for thread in checkpoint.living().flat_map(|(_, body)| &body.threads) {
        own.check(&thread.state).of(Phase::Plan, host(thread.tid))?;
    }
    Ok(())
}

/// A process of a session or group that is not of the tree goes into that of
/// dormouse.
fn nodes(checkpoint: &Checkpoint, outside: Outside, shell_job: bool) -> Vec<Node> {
    let pids: BTreeSet<i32> =
        checkpoint.processes.iter().map(|process| process.node.pid.as_raw()).collect();
    let root = &checkpoint.processes[0].node;
    checkpoint
        .processes
        .iter()
        .map(|process| {
            let node = &process.node;
            let outer_sid = node.sid == root.sid && !pids.contains(&root.sid);
            let outer_pgid = node.pgid == root.pgid && !pids.contains(&root.pgid);
            Node {
                pid: node.pid.as_raw(),
                parent: node.parent.map(NsPid::as_raw),
                space: process.body.as_ref().map_or(node.pid, |body| body.space).as_raw(),
                sid: if shell_job && outer_sid { outside.sid } else { node.sid },
                pgid: if shell_job && outer_pgid { outside.pgid } else { node.pgid },
            }
        })
        .collect()
}

/// Pids that nobody has, and that nobody of the tree will need.
fn spare(checkpoint: &Checkpoint) -> impl Iterator<Item = i32> + use<> {
    // Those below are not given to ordinary processes, and those above not by every kernel.
    const USUAL: std::ops::Range<i32> = 300..32768;
    let nodes = checkpoint.processes.iter().map(|process| &process.node);
    let needed: BTreeSet<i32> = nodes
        .flat_map(|node| {
            let threads = node.threads.iter().map(|tid| tid.as_raw());
            threads.chain([node.pid.as_raw(), node.pgid, node.sid])
        })
        .collect();
    let is_free = |raw| HostPid::from_raw(raw).is_some_and(|pid| ProcDir::open(pid).is_err());
    USUAL.filter(move |raw| !needed.contains(raw) && is_free(*raw))
}

/// Every number that will be needed must be free.
fn check_pids(checkpoint: &Checkpoint, steps: &[Step]) -> Result<(), Error> {
    let threads = checkpoint.processes.iter().flat_map(|process| &process.node.threads).copied();
    let forked = steps.iter().filter_map(|step| match *step {
        Step::Fork { child, .. } => NsPid::from_raw(child),
        _ => None,
    });
    let pids: BTreeSet<_> = threads.chain(forked).collect();
    // Members of a group may be other processes of the tree, of which something is left.
    let is_taken = |pid: &&NsPid| !becomes_free(**pid);
    match pids.iter().find(is_taken).or_else(|| pids.iter().find(|pid| !ends(**pid))) {
        Some(&pid) => Err(taken(pid)).at(Phase::Plan),
        None => Ok(()),
    }
}

/// A number that no table has a descriptor under: the lowest above them all, or
/// if the limit allows none there, the highest below it.
fn unused(numbers: &BTreeSet<u32>, limit: u64) -> u32 {
    let above = numbers.last().map_or(0, |highest| highest.saturating_add(1));
    if u64::from(above) < limit {
        return above;
    }
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    (0..above.min(limit)).rev().find(|number| !numbers.contains(number)).unwrap_or(above)
}

/// Whether nobody has a pid, or soon will not: what is left of the very tree
/// that was just dumped goes as soon as init has taken note.
fn becomes_free(pid: NsPid) -> bool {
    // Some inits only look every few seconds.
    const PATIENCE: Duration = Duration::from_secs(10);
    let begun = Instant::now();
    loop {
        let Ok(dir) = ProcDir::open(host(pid)) else { return true };
        let dead = dir.stat().is_ok_and(|stat| stat.state.is_dead());
        if !dead || begun.elapsed() > PATIENCE {
            return dir.is_gone();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether there is no process group with a number, or soon is none.
fn ends(group: NsPid) -> bool {
    const PATIENCE: Duration = Duration::from_secs(1);
    let begun = Instant::now();
    while is_group(group) {
        if begun.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Whether a process group with this number has members, zombies or not.
fn is_group(number: NsPid) -> bool {
    let number = rustix::process::Pid::from_raw(number.as_raw());
    number.is_some_and(|number| {
        rustix::process::test_kill_process_group(number) != Err(rustix::io::Errno::SRCH)
    })
}

/// A range that is free in all processes of the tree, and in dormouse.
fn room<'a>(vmas: impl Iterator<Item = &'a Vma>) -> Result<AddrRange, Cause> {
    let own = ProcDir::of_self()?.maps()?;
    let mut used: Vec<(u64, u64)> = own
        .iter()
        .map(|vma| vma.range)
        .chain(vmas.map(|vma| vma.range))
        .map(|range| (range.start().as_raw(), range.end().as_raw()))
        .collect();
    used.sort_unstable();
    // Well above what is never mapped, well below the stack.
    let mut at = 0x1_0000_0000;
    for (start, end) in used {
        // Stacks grow down into what is below them.
        if start.saturating_sub(at) >= ROOM * 4 {
            break;
        }
        at = at.max(end);
    }
    AddrRange::with_len(Addr::from_raw(at + ROOM), ROOM)
        .filter(|room| room.end().as_raw() < 0x7fff_0000_0000)
        .ok_or(Cause::NoRoom(ROOM))
}

fn line(process: &Process, spaces: &BTreeMap<NsPid, Space>) -> String {
    let node = &process.node;
    let body = match &process.body {
        None => "a zombie".to_owned(),
        Some(body) => {
            let threads = body.threads.len();
            match spaces.get(&node.pid) {
                Some(space) => {
                    format!("{threads} thread(s), {} mappings", space.memory.mm.vmas.len())
                }
                None => format!("{threads} thread(s), the memory of {}", body.space),
            }
        }
    };
    let parent = node.parent.map_or("dormouse".to_owned(), |parent| parent.to_string());
    let name = &process.name;
    format!("process {} ({name}), child of {parent}, session {}: {body}", node.pid, node.sid)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "{} bytes of memory", self.bytes)?;
        for step in &self.steps {
            match step {
                Step::Fork { maker, child, sibling: false } => {
                    writeln!(f, "{maker} forks {child}")?;
                }
                Step::Fork { maker, child, sibling: true } => {
                    writeln!(f, "{maker} forks {child} as its sibling")?;
                }
                Step::SetSid(pid) => writeln!(f, "{pid} makes its session")?,
                Step::SetPgid { pid, pgid } => writeln!(f, "{pid} joins group {pgid}")?,
                Step::Adopt { helper, adopter, .. } => {
                    writeln!(f, "{adopter} adopts the child of {helper}")?;
                }
                Step::Dismiss { pid, .. } => writeln!(f, "{pid} is dismissed")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::unused;

    #[test]
    fn the_link_is_below_the_limit() {
        assert_eq!(unused(&[].into(), 10), 0);
        assert_eq!(unused(&[0, 3].into(), 10), 4);
        assert_eq!(unused(&[0, 9].into(), 10), 8);
        assert_eq!(unused(&[7, 8, 9, 500].into(), 10), 6);
        assert_eq!(unused(&[u32::MAX].into(), 10), 9);
    }
}
