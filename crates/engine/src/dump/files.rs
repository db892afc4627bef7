//! Open files, fd tables and locks.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use dormouse_image::store::NewDump;
use dormouse_kernel::{HostPid, NsPid};
use dormouse_resources as resources;
use dormouse_resources::file::{
    CollectCx, CollectOptions, File, FileId, HeldConnections, ImageSink, LinkRemap, Locks,
    RingSurvey, SaveShared, UndoLog, UserfaultSurvey,
};
use dormouse_resources::memory::{self, Enumerated, Obstacle, SharedObjects};
use dormouse_resources::task::Refusal;
use tracing::debug;

use super::encode::table_id;
use super::enumerate::Census;
use super::frozen::{Frozen, Process};
use super::terminals;
use crate::cause::{At, Cause};
use crate::{AfterDump, DumpOptions, Error, Phase};

/// Shared objects that files hold, on their way to the memory's images.
struct Shared<'a>(RefCell<&'a mut SharedObjects>);

impl SaveShared for Shared<'_> {
    fn save(&self, file: OwnedFd) -> resources::Result<u32> {
        Ok(self.0.borrow_mut().add(file)?.as_raw())
    }
}

/// Reads every file.
pub(super) fn collect(
    options: &DumpOptions,
    frozen: &Frozen,
    census: &mut Census,
    rings: RingSurvey,
) -> Result<(BTreeMap<FileId, File>, HeldConnections), Error> {
    const PHASE: Phase = Phase::Collect;
    let tasks = |process: &Process| {
        let threads = process.threads.iter().map(|task| task.tid());
        threads.chain([process.pid]).collect::<Vec<_>>()
    };
    let pids: BTreeSet<HostPid> = frozen.processes.iter().flat_map(tasks).collect();
    let ns_pid =
        |pid: HostPid| pids.contains(&pid).then(|| NsPid::from_raw(pid.as_raw())).flatten();
    let index = std::mem::take(&mut census.index);
    let faults = faults(frozen, census);
    let shared = Shared(RefCell::new(&mut census.objects));
    let choices = CollectOptions {
        ghost_limit: options.ghost_limit,
        link_remap: match options.after {
            _ if !options.link_remap => LinkRemap::Never,
            AfterDump::Kill => LinkRemap::Always,
            AfterDump::LeaveStopped | AfterDump::LeaveRunning => LinkRemap::Needed,
        },
        build_ids: options.build_ids,
        shell_job: options.shell_job,
        unix_peers: options.unix_peers,
        tcp: options.tcp,
        network_lock: options.network_lock,
        skip_in_flight: options.skip_in_flight,
    };
    let cx = CollectCx::new(choices, (&census.probes, &census.tables), index, &ns_pid, &shared)
        .with_controlled(terminals::controlled(frozen))
        .with_external(options.external.iter().cloned())
        .with_processes(frozen.processes.iter().map(|process| process.pid));
    cx.note(std::mem::take(&mut census.in_flight));
    cx.note_rings(rings);
    cx.note_faults(faults);
    let mut files = BTreeMap::new();
    for (&id, probe) in &census.probes {
        let (task, fd) = probe.holder.place();
        let file = File::collect(&cx, probe).of_fd(PHASE, task, fd)?;
        debug!(id = id.as_raw(), pid = %task, fd = fd.map(tracing::field::display), "{}", file.name());
        files.insert(id, file);
    }
    if let Some((pid, range)) = cx.unclaimed_faults() {
        let (name, obstacle) = ("registered".into(), Obstacle::Userfault);
        return Err(memory::Error::Unsupported { pid, range, name, obstacle }).of(PHASE, pid);
    }
    let connections = cx.take_connections();
    terminals::check(frozen, &files)?;
    check_locks(options, &census.locks)?;
    Ok((files, connections))
}

/// What is registered with userfaultfds in the memory of the tree.
fn faults(frozen: &Frozen, census: &mut Census) -> UserfaultSurvey {
    let tasks = frozen.processes.iter().flat_map(|process| &process.threads);
    let firsts = tasks.map(|task| (task.tid(), census.memory.owner(task.tid()))).collect();
    let registered = |space: &mut Enumerated| std::mem::take(&mut space.registered);
    let spaces = census.spaces.iter_mut().map(|(&first, space)| (first, registered(space)));
    UserfaultSurvey::new(firsts, spaces.collect())
}

/// Locks are only saved if that is asked for, as CRIU has it: others than the
/// tree may rely on what a lock stands for.
fn check_locks(options: &DumpOptions, locks: &Locks) -> Result<(), Error> {
    match locks.first().filter(|_| !options.file_locks) {
        None => Ok(()),
        Some((task, fd)) => {
            Err(Cause::Unsupported(Refusal::Lock)).of_fd(Phase::Collect, task, Some(fd))
        }
    }
}

/// Writes them, with the fd tables and the locks.
pub(super) fn encode(
    census: &Census,
    files: &BTreeMap<FileId, File>,
    dump: &NewDump,
) -> Result<UndoLog, Error> {
    const PHASE: Phase = Phase::Encode;
    let mut sink = ImageSink::new(dump);
    for (&id, file) in files {
        let (task, fd) = census.probes[&id].holder.place();
        file.encode(id, &mut sink).of_fd(PHASE, task, fd)?;
    }
    for (number, table) in census.tables.iter().enumerate() {
        table.encode(table_id(number), files, dump).at(PHASE)?;
    }
    census.locks.encode(dump).at(PHASE)?;
    sink.finish().at(PHASE)
}
