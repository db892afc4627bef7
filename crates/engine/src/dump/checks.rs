//! Whether a tree can be made again.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_kernel::proc::ProcDir;
use dormouse_kernel::rlimit::Resource;
use dormouse_kernel::{DeviceId, HostPid};

use dormouse_resources::memory::{MOST_THREADS, PagesFiles};
use dormouse_resources::task::Refusal;

use super::enumerate::Census;
use super::frozen::{Frozen, Process};
use crate::cause::{At, Cause};
use crate::restore::spawn_plan;
use crate::{DumpOptions, Error, Phase};

fn pids(frozen: &Frozen) -> BTreeSet<HostPid> {
    frozen.processes.iter().map(|process| process.pid).collect()
}

/// A tree whose root is in somebody else's session can only be restored into
/// another session. One whose leader is gone can be made again, if those who
/// are in it can be forked by whoever stands in for the leader.
pub(super) fn check_tree(
    options: &DumpOptions,
    frozen: &Frozen,
    census: &Census,
) -> Result<(), Error> {
    let pids = pids(frozen);
    for process in &frozen.processes {
        let outside = |session: HostPid| {
            !pids.contains(&session)
                && (process.pid == options.pid || ProcDir::open(session).is_ok())
        };
        if process.stat.session.is_none_or(outside) && !options.shell_job {
            return Err(Cause::Unsupported(Refusal::ForeignSession)).of(Phase::Freeze, process.pid);
        }
    }
    if options.shell_job {
        return Ok(());
    }
    let firsts: BTreeMap<HostPid, HostPid> =
        frozen.processes.iter().map(|process| (process.first(), process.pid)).collect();
    let space = |process: &Process| {
        if process.is_zombie() {
            return process.pid;
        }
        firsts[&census.memory.owner(process.first())]
    };
    let number = |pid: Option<HostPid>| pid.map_or(0, HostPid::as_raw);
    let node = |process: &Process| spawn_plan::Node {
        pid: process.pid.as_raw(),
        parent: process.parent.map(HostPid::as_raw),
        pgid: number(process.stat.pgrp),
        sid: number(process.stat.session),
        space: space(process).as_raw(),
    };
    let nodes: Vec<_> = frozen.processes.iter().map(node).collect();
    let outside = spawn_plan::Outside { sid: 0, pgid: 0 };
    // The numbers of helpers do not matter here.
    spawn_plan::plan(&nodes, outside, |_| false, 1..).map(drop).at(Phase::Freeze)
}

/// A restore creates every file before any fd table has it, and every object before it is mapped
/// anywhere, in one process. Told after the dump, it would be too late.
pub(super) fn check_files(frozen: &Frozen, census: &Census) -> Result<(), Error> {
    const PHASE: Phase = Phase::Enumerate;
    const STREAMS: usize = 3;
    /// The log, statistics, the file for the pid, what leads to whoever has started it.
    const OUTPUTS: usize = 4;
    /// Those of images and of work.
    const DIRECTORIES: usize = 2;
    /// A directory of `/proc` and a file there; the two ends of what descriptors are sent through.
    const AT_HAND: usize = 4;
    /// Each thread that fills memory has an image and the memory of a process open.
    const FILLING: usize = 2 * MOST_THREADS;
    const BESIDES: usize = STREAMS + OUTPUTS + DIRECTORIES + AT_HAND + FILLING;
    let device = census.objects.device();
    let stats = census.probes.values().map(|probe| &probe.sighting.stat);
    let memfds = stats.filter(|stat| DeviceId::from_stat(stat.st_dev) == device);
    // Each is kept until all of it that is mapped has its contents.
    let memfds = memfds.map(|stat| stat.st_ino).collect::<BTreeSet<u64>>().len();
    let objects = census.objects.count();
    let images = (memfds + objects + census.spaces.len()).min(PagesFiles::MOST_OPEN);
    let needed = census.probes.len() + memfds + objects + images + BESIDES;
    let own = ProcDir::of_self().and_then(|own| own.limits()).at(PHASE)?.get(Resource::Files);
    if needed as u64 <= own.hard {
        return Ok(());
    }
    let root = frozen.processes[0].pid;
    let about = format!("{needed} descriptors, RLIMIT_NOFILE {}", own.hard);
    Err(Refusal::ManyFiles.error(about)).of(PHASE, root)
}
