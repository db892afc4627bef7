//! The phases of a dump.

mod aio;
mod collect;
mod encode;
mod enumerate;
pub(crate) mod freeze;
mod frozen;
mod interrupted;
mod restart_block;
mod semaphores;
mod sharing;
mod sleepers;
mod terminals;
mod traced;
mod waits;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use dormouse_image::store::NewDump;
use dormouse_kernel::proc::ProcDir;
use dormouse_kernel::{Addr, HostPid, NsPid};
use dormouse_resources as resources;
use dormouse_resources::file::{
    CollectCx, CollectOptions, File, FileId, HeldConnections, ImageSink, Locks, SaveShared, UndoLog,
};
use dormouse_resources::memory::{DumpedPages, DumpedProcess, PageDump, SharedObjects};

use crate::cause::{At, Cause};
use crate::restore::spawn_plan;
use crate::{AfterDump, DumpOptions, Error, Phase, Progress};

/// What a dump cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct DumpReport {
    /// How long it took until the last task stood still.
    pub freezing: Duration,
    /// How long the tree stood still.
    pub frozen: Duration,
    /// How long it took to find and copy the pages.
    pub memory: Duration,
    /// Pages, as they were found and written.
    pub pages: DumpedPages,
    /// Tasks.
    pub tasks: usize,
}

/// Dumps a tree. Whatever goes wrong, the tree runs on as if nothing had
/// happened, and nothing is left in the image directory.
pub fn dump(options: &DumpOptions, progress: &mut dyn Progress) -> Result<DumpReport, Error> {
    progress.phase(Phase::Freeze, None);
    let dump = NewDump::begin(&options.images).at(Phase::Encode)?;
    let begun = Instant::now();
    let mut frozen = freeze::freeze(options.pid, options.timeout, &|| progress.is_abandoned())
        .of(Phase::Freeze, options.pid)?;
    let mut report =
        DumpReport { freezing: begun.elapsed(), tasks: frozen.tasks(), ..DumpReport::default() };
    let still = Instant::now();

    progress.phase(Phase::Enumerate, None);
    let mut census = enumerate::enumerate(&frozen, &options.external)?;
    if aio::settle(&mut census, options.timeout, &|| progress.is_abandoned())? {
        // Requests may have been at work beside the census.
        census = enumerate::enumerate(&frozen, &options.external)?;
        aio::settle(&mut census, Duration::ZERO, &|| false)?;
    }
    check_tree(options, &frozen, &census)?;
    progress.phase(Phase::Collect, None);
    go_on(progress, Phase::Collect)?;
    let (read, filters) = collect::collect(&mut frozen, &census)?;
    go_on(progress, Phase::Collect)?;
    let (files, mut connections) = collect_files(options, &frozen, &mut census)?;
    let inventory = encode::inventory(options, connections.run());
    if options.after != AfterDump::Kill {
        // The program goes on, and so may its peers.
        drop(std::mem::take(&mut connections));
    }

    go_on(progress, Phase::Collect)?;
    let begun = Instant::now();
    report.pages = dump_pages(&frozen, &mut census, &dump, progress)?;
    report.memory = begun.elapsed();

    progress.phase(Phase::Encode, None);
    encode::encode(&frozen, &census, (&read, &filters), &dump)?;
    let undo = encode_files(&census, &files, &dump)?;

    progress.phase(Phase::Commit, None);
    go_on(progress, Phase::Commit)?;
    // What can fail comes before the dump is complete.
    report.frozen = still.elapsed();
    let work = options.work.as_ref().unwrap_or(&options.images);
    crate::stats::write_dump(work, &report).at(Phase::Commit)?;
    connections.outlast().at(Phase::Commit)?;
    dump.commit(&inventory).at(Phase::Commit)?;
    undo.keep();

    progress.phase(Phase::Thaw, None);
    match options.after {
        AfterDump::Kill => {
            let killed = frozen.kill(|| connections.orphan());
            connections.close();
            killed.at(Phase::Thaw)?;
        }
        AfterDump::LeaveStopped => frozen.leave_stopped(),
        AfterDump::LeaveRunning => drop(frozen),
    }
    Ok(report)
}

/// Fails if nobody wants the dump any more.
fn go_on(progress: &dyn Progress, phase: Phase) -> Result<(), Error> {
    if progress.is_abandoned() { Err(Cause::Abandoned).at(phase) } else { Ok(()) }
}

fn pids(frozen: &frozen::Frozen) -> BTreeSet<HostPid> {
    frozen.processes.iter().map(|process| process.pid).collect()
}

/// A tree whose root is in somebody else's session can only be restored into
/// another session. One whose leader is gone can be made again, if those who
/// are in it can be forked by whoever stands in for the leader.
fn check_tree(
    options: &DumpOptions,
    frozen: &frozen::Frozen,
    census: &enumerate::Census,
) -> Result<(), Error> {
    let pids = pids(frozen);
    for process in &frozen.processes {
        let outside = |session: HostPid| {
            !pids.contains(&session)
                && (process.pid == options.pid || ProcDir::open(session).is_ok())
        };
        if process.stat.session.is_none_or(outside) && !options.shell_job {
            return Err(Cause::Unsupported {
                what: "a session whose leader is outside of the tree",
                reason: "the process would be restored into another session",
                hint: "start the program with setsid(1), or dump it with --shell-job",
            })
            .of(Phase::Freeze, process.pid);
        }
    }
    if options.shell_job {
        return Ok(());
    }
    let firsts: BTreeMap<HostPid, HostPid> =
        frozen.processes.iter().map(|process| (process.first(), process.pid)).collect();
    let space = |process: &frozen::Process| {
        if process.is_zombie() {
            return process.pid;
        }
        firsts[&census.memory.owner(process.first())]
    };
    let number = |pid: Option<HostPid>| pid.map_or(0, HostPid::as_raw);
    let node = |process: &frozen::Process| spawn_plan::Node {
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

/// Shared objects that files hold, on their way to the memory's images.
struct Shared<'a>(RefCell<&'a mut SharedObjects>);

impl SaveShared for Shared<'_> {
    fn save(&self, file: OwnedFd) -> resources::Result<u32> {
        Ok(self.0.borrow_mut().add(file)?.as_raw())
    }
}

fn collect_files(
    options: &DumpOptions,
    frozen: &frozen::Frozen,
    census: &mut enumerate::Census,
) -> Result<(BTreeMap<FileId, File>, HeldConnections), Error> {
    const PHASE: Phase = Phase::Collect;
    let tasks = |process: &frozen::Process| {
        let threads = process.threads.iter().map(|task| task.tid());
        threads.chain([process.pid]).collect::<Vec<_>>()
    };
    let pids: BTreeSet<HostPid> = frozen.processes.iter().flat_map(tasks).collect();
    let ns_pid =
        |pid: HostPid| pids.contains(&pid).then(|| NsPid::from_raw(pid.as_raw())).flatten();
    let shared = Shared(RefCell::new(&mut census.objects));
    let index = std::mem::take(&mut census.index);
    let choices = CollectOptions {
        ghost_limit: options.ghost_limit,
        link_remap: options.link_remap,
        shell_job: options.shell_job,
        unix_peers: options.unix_peers,
        tcp: options.tcp,
        network_lock: options.network_lock,
        skip_in_flight: options.skip_in_flight,
    };
    let living = frozen.processes.iter().filter(|process| !process.is_zombie());
    let cx = CollectCx::new(choices, (&census.probes, &census.tables), index, &ns_pid, &shared)
        .with_controlled(terminals::controlled(frozen))
        .with_external(options.external.iter().cloned())
        .with_processes(living.map(|process| process.pid));
    cx.note(std::mem::take(&mut census.in_flight));
    let mut files = BTreeMap::new();
    for (&id, probe) in &census.probes {
        use dormouse_resources::file::Holder;
        let (task, fd) = match probe.holder {
            Holder::Fd { task, fd } | Holder::Flight { task, fd } => (task, Some(fd)),
            Holder::Link { task, .. } => (task, None),
        };
        files.insert(id, File::collect(&cx, probe).of_fd(PHASE, task, fd)?);
    }
    let connections = cx.take_connections();
    terminals::check(frozen, &files)?;
    check_locks(options, &census.locks)?;
    Ok((files, connections))
}

/// Locks are only saved if that is asked for, as CRIU has it: others than the
/// tree may rely on what a lock stands for.
fn check_locks(options: &DumpOptions, locks: &Locks) -> Result<(), Error> {
    match locks.first().filter(|_| !options.file_locks) {
        None => Ok(()),
        Some((task, fd)) => Err(Cause::Unsupported {
            what: "a locked file",
            reason: "saving locks and leases was not asked for",
            hint: "use --file-locks to have them saved",
        })
        .of_fd(Phase::Collect, task, Some(fd)),
    }
}

fn encode_files(
    census: &enumerate::Census,
    files: &BTreeMap<FileId, File>,
    dump: &NewDump,
) -> Result<UndoLog, Error> {
    const PHASE: Phase = Phase::Encode;
    let mut sink = ImageSink::new(dump);
    for (&id, file) in files {
        file.encode(id, &mut sink).at(PHASE)?;
    }
    for (number, table) in census.tables.iter().enumerate() {
        table.encode(encode::table_id(number), files, dump).at(PHASE)?;
    }
    census.locks.encode(dump).at(PHASE)?;
    sink.finish().at(PHASE)
}

fn dump_pages(
    frozen: &frozen::Frozen,
    census: &mut enumerate::Census,
    dump: &NewDump,
    progress: &mut dyn Progress,
) -> Result<DumpedPages, Error> {
    const PHASE: Phase = Phase::Pages;
    let mut processes = Vec::new();
    for process in &frozen.processes {
        // Zombies have none, and of what is shared each is dumped once.
        let Some(space) = census.spaces.get_mut(&process.first()) else { continue };
        let lowest = space.vmas.first().map(|vma| vma.range.start()).unwrap_or(Addr::NULL);
        processes.push(DumpedProcess {
            image_pid: encode::image_pid(process.pid),
            proc: &process.proc,
            pages: std::mem::take(&mut space.pages),
            lowest,
        });
    }
    let plan = PageDump::plan(processes, &census.objects).at(PHASE)?;
    progress.phase(PHASE, Some(plan.bytes()));
    let mut advance = |bytes| {
        progress.advance(bytes);
        if progress.is_abandoned() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    plan.write(dump, &mut advance).at(PHASE)
}
