//! Whether a tree can be made again.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_kernel::proc::ProcDir;
use dormouse_kernel::rlimit::Resource;
use dormouse_kernel::{DeviceId, HostPid};

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

/// A restore holds every file and every object in one process, and with each object that has contents
/// the image of those. Told after the dump, it would be too late.
pub(super) fn check_files(frozen: &Frozen, census: &Census) -> Result<(), Error> {
    const PHASE: Phase = Phase::Enumerate;
    /// What it has open besides: its streams, images, and what it looks at in `/proc`.
    const BESIDES: usize = 12;
    let device = census.objects.device();
    let stats = census.probes.values().map(|probe| &probe.sighting.stat);
    let memfds = stats.filter(|stat| DeviceId::from_stat(stat.st_dev) == device);
    let stored: BTreeSet<u64> =
        memfds.filter(|stat| stat.st_blocks > 0).map(|stat| stat.st_ino).collect();
    let mapped = 2 * census.objects.count();
    let needed = census.probes.len() + stored.len() + mapped + census.spaces.len() + BESIDES;
    let own = ProcDir::of_self().and_then(|own| own.limits()).at(PHASE)?.get(Resource::Files);
    if needed as u64 <= own.hard {
        return Ok(());
    }
    let root = frozen.processes[0].pid;
    let about = format!("{needed} descriptors, RLIMIT_NOFILE {}", own.hard);
    Err(Refusal::ManyFiles.error(about)).of(PHASE, root)
}
