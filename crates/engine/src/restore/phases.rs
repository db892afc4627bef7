//! The phases, in their order.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use dormouse_image::{ImageDir, ImageName};
use dormouse_kernel::HostPid;
use dormouse_resources as resources;
use dormouse_resources::file::{
    CreateCx, CreatedFiles, FillRank, LoadShared, SignalItem, Uncreated,
};
use dormouse_resources::memory::ShmemId;
use dormouse_resources::task::{Life, Seccomp};
use rustix::fs::Mode;

use super::decode::{self, Checkpoint, host};
use super::memory::Memory;
use super::plan::Plan;
use super::terminals::Terminals;
use super::world::{Parent, World};
use super::{endings, errands, family, locks, network, outside, states, tables, terminals};
use crate::cause::At;
use crate::late_file::LateFile;
use crate::progress::Logged;
use crate::stats::Stats;
use crate::{Error, Phase, Progress, RestoreOptions, processor};

/// A restored tree, which runs.
#[derive(Clone, Copy, Debug)]
pub struct Restored {
    /// Its root, a child of whom the options say.
    pub root: HostPid,
}

/// What a restore would do: every image is judged, nothing is created.
pub fn plan(options: &RestoreOptions) -> Result<Plan, Error> {
    let (dir, inventory) = ImageDir::open(&options.images).at(Phase::Decode)?;
    processor::check(&options.images, options.cpu)?;
    let checkpoint = decode::decode(&dir, &inventory, network::connections(options, &inventory))?;
    Plan::make(&checkpoint, options)
}

/// Brings a tree back. If it fails, nothing is left of it.
pub fn restore(
    options: &mut RestoreOptions,
    progress: &mut dyn Progress,
) -> Result<Restored, Error> {
    let progress = &mut Logged::new(progress);
    let begun = Instant::now();
    progress.phase(Phase::Decode, None);
    let (dir, inventory) = ImageDir::open(&options.images).at(Phase::Decode)?;
    processor::check(&options.images, options.cpu)?;
    let tcp = network::connections(options, &inventory);
    let checkpoint = decode::decode(&dir, &inventory, tcp)?;
    let lock = network::lock(&inventory, checkpoint.processes[0].node.pid).at(Phase::Decode)?;
    progress.phase(Phase::Plan, None);
    let mut plan = Plan::make(&checkpoint, options)?;
    let mut memory = Memory::plan(&checkpoint, &plan)?;
    plan.put_off(&checkpoint, |pid| memory.is_late(pid))?;
    let work = options.work.as_ref().unwrap_or(&options.images);
    let needed = options.needs_stats;
    let stats = Stats::begin(work, ImageName::StatsRestore, needed).at(Phase::Plan)?;
    let pidfile = options.pidfile.take().map(|path| {
        let mode = Mode::from_raw_mode(0o666);
        LateFile::begin(path, mode, "give another name for it with --pidfile").at(Phase::Plan)
    });
    let pidfile = pidfile.transpose()?;

    progress.phase(Phase::Create, None);
    let stored = Stored(&checkpoint);
    let mut cx = CreateCx::new(&checkpoint.files, &dir, &stored)
        .with_outer_terminal(terminals::outer(options.shell_job))
        .with_builds_checked(options.build_ids)
        .with_inherited(std::mem::take(&mut options.inherit));
    let mut created = cx.create_all().or_else(|error| uncreated(&checkpoint, error))?;

    progress.phase(Phase::Spawn, None);
    let root = checkpoint.processes[0].node.pid;
    let unfiltered = checkpoint
        .living()
        .any(|(_, body)| body.threads.iter().any(|thread| thread.seccomp != Seccomp::Off));
    let parent = Parent::of(&checkpoint.processes[0], options);
    let place = (plan.room, plan.link);
    let mut world = World::begin(root, (parent, unfiltered), place).of(Phase::Spawn, host(root))?;
    plan.keyrings.begin(&mut world, &checkpoint)?;
    memory.make_objects(&checkpoint, &mut world, root).at(Phase::Memory)?;
    let forking = Instant::now();
    let terminals = Terminals::new(&checkpoint, &created);
    family::spawn(&mut world, root, &plan, (&mut memory, &mut cx), &terminals)?;
    let forking = forking.elapsed();
    errands::make_rings(&mut world, &checkpoint, &mut cx)?;
    errands::make_userfaultfds(&mut world, &checkpoint, &mut cx)?;
    cx.create_living(&mut created).or_else(|error| uncreated(&checkpoint, error))?;
    // While their epolls are empty.
    SignalItem::add_ended(&checkpoint.signal_items, &created).at(Phase::Fill)?;
    fill(&created, FillRank::Fresh)?;

    let pages = memory.pages();
    progress.phase(Phase::Memory, Some(pages.written * dormouse_kernel::PAGE_SIZE));
    // Goes on beside all that does not depend on contents.
    let filling = memory.begin_filling(&mut world, &mut cx)?;

    progress.phase(Phase::Install, None);
    errands::signal_items(&mut world, &checkpoint, &created)?;
    let late = tables::install(&mut world, &checkpoint, &created, &mut cx)?;
    cx.create_installed(&mut created).or_else(|error| uncreated(&checkpoint, error))?;
    tables::replace(&mut world, late, &created)?;
    let terminals = Terminals::new(&checkpoint, &created);

    progress.phase(Phase::Fill, None);
    fill(&created, FillRank::Contents)?;
    cx.finish().at(Phase::Fill)?;

    let segments = memory.finish(filling, (&mut world, &created), progress)?;

    let rings = created.hold_for_rings(&mut world).at(Phase::Fill)?;

    progress.phase(Phase::Threads, None);
    family::groups(&mut world, &plan)?;
    terminals::arrange(&mut world, &checkpoint, &terminals, options.shell_job)?;
    outside::write(&mut world, &checkpoint, options.shell_job)?;
    locks::take(&mut world, &checkpoint, &created)?;
    errands::notifications(&mut world, &checkpoint)?;
    endings::zombies(&mut world, &checkpoint)?;
    endings::leaders(&mut world, &checkpoint)?;
    endings::stops(&mut world, &checkpoint)?;
    endings::continuations(&mut world, &checkpoint)?;
    // What ends is reported to whoever watches it.
    fill(&created, FillRank::Watches)?;
    plan.keyrings.give(&mut world, &checkpoint)?;
    states::apply(&mut world, &checkpoint, plan.numbering)?;
    for ring in rings {
        ring.resume(&mut world).at(Phase::Threads)?;
    }
    states::set_registers(&mut world, &checkpoint)?;
    // Nothing of a puppet is left that `/proc` could show.
    fill(&created, FillRank::Arm)?;
    errands::signals_wait(&world, &checkpoint, &created)?;
    created.settle_signalfds().at(Phase::Threads)?;
    let connections = created.into_connections();
    if let Some(file) = pidfile {
        file.write(root.to_string().as_bytes()).at(Phase::Release)?;
    }
    stats.write_restore((forking, begun.elapsed()), pages);
    segments.keep().at(Phase::Release)?;
    checkpoint.files.publish_queues().at(Phase::Release)?;
    checkpoint.files.remove_links().at(Phase::Release)?;
    progress.phase(Phase::Release, None);
    network::set_free(connections, lock, tcp).at(Phase::Release)?;
    release(&checkpoint, options, world)?;
    Ok(Restored { root: host(root) })
}

/// Where files find the contents of shared objects.
struct Stored<'a>(&'a Checkpoint);

impl LoadShared for Stored<'_> {
    fn load(&self, shmid: u32, file: BorrowedFd<'_>, size: u64) -> resources::Result<()> {
        let Self(Checkpoint { objects, pages, .. }) = self;
        match objects.get(&ShmemId::from_raw(shmid)) {
            Some(object) => Ok(object.fill(file, size, pages, &mut |_| ())?),
            // CRIU has no image of what is empty.
            None => Ok(()),
        }
    }
}

/// The error, with a process that has the file, and its number there.
fn uncreated<T>(checkpoint: &Checkpoint, error: Uncreated) -> Result<T, Error> {
    let Uncreated { file, source } = error;
    match file.and_then(|file| checkpoint.holder(file)) {
        Some((pid, fd)) => Err(source).of_fd(Phase::Create, host(pid), Some(fd)),
        // It is in flight, or about none.
        None => Err(source).at(Phase::Create),
    }
}

fn fill(created: &CreatedFiles<'_>, rank: FillRank) -> Result<(), Error> {
    created.fill(rank, &|pid| Some(host(pid))).at(Phase::Fill)
}

/// Lets the tree run.
fn release(checkpoint: &Checkpoint, options: &RestoreOptions, world: World) -> Result<(), Error> {
    for (process, _) in checkpoint.living() {
        let runs = process.life == Life::Running;
        if runs
            && options.leave_stopped
            && let Some(pid) = rustix::process::Pid::from_raw(process.node.pid.as_raw())
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::STOP);
        }
    }
    let threads = checkpoint.living().flat_map(|(_, body)| &body.threads);
    let turns = threads.filter_map(|thread| Some((host(thread.tid), thread.turn?))).collect();
    let nodes = checkpoint.processes.iter();
    let targets = nodes.flat_map(|process| [Some(process.node.pid), process.parent_thread]);
    let targets = targets.flatten().map(host).collect();
    world.release(&turns, &targets).or_else(|error| {
        let tid = error.tid();
        Err(error).of(Phase::Release, tid)
    })
}
