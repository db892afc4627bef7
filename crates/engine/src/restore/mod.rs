//! The phases of a restore.

mod births;
mod decode;
mod locks;
mod memory;
mod network;
mod outside;
mod plan;
pub(crate) mod spawn_plan;
mod terminals;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use dormouse_image::ImageDir;
use dormouse_kernel::ptrace::Stopped;
use dormouse_kernel::signal::{SigSet, Signal};
use dormouse_kernel::{HostPid, NsPid};
use dormouse_puppet::{Arg, Batch, Ending, Resumption};
use dormouse_resources::file::{CreateCx, CreatedFiles, FillRank, LoadShared, SignalItem};
use dormouse_resources::memory::ShmemId;
use dormouse_resources::task::{
    Cpu, Filters, Life, Numbering, ProcessPending, Property, Seccomp, ThreadPending,
};
use dormouse_resources::{self as resources};

use crate::cause::{At, Cause};
use crate::{Error, Phase, Progress, RestoreOptions, stats};
use decode::{Body, Checkpoint, Process, host};
use memory::Memory;
pub use plan::Plan;
use spawn_plan::Step;
use terminals::Terminals;
use world::World;

/// A restored tree, which runs.
#[derive(Clone, Copy, Debug)]
pub struct Restored {
    /// Its root, a child of this process, or as a sibling of its parent.
    pub root: HostPid,
}

/// What a restore would do: every image is judged, nothing is created.
pub fn plan(options: &RestoreOptions) -> Result<Plan, Error> {
    let (dir, inventory) = ImageDir::open(&options.images).at(Phase::Decode)?;
    let checkpoint = decode::decode(&dir, network::connections(options, &inventory))?;
    Plan::make(&checkpoint, options)
}

/// Brings a tree back. If it fails, nothing is left of it.
pub fn restore(
    options: &mut RestoreOptions,
    progress: &mut dyn Progress,
) -> Result<Restored, Error> {
    let begun = Instant::now();
    progress.phase(Phase::Decode, None);
    let (dir, inventory) = ImageDir::open(&options.images).at(Phase::Decode)?;
    let tcp = network::connections(options, &inventory);
    let checkpoint = decode::decode(&dir, tcp)?;
    let lock = network::lock(&inventory, checkpoint.processes[0].node.pid).at(Phase::Decode)?;
    progress.phase(Phase::Plan, None);
    let mut plan = Plan::make(&checkpoint, options)?;
    let mut memory = Memory::plan(&checkpoint, &plan)?;
    plan.put_off(&checkpoint, |pid| memory.inherits(pid))?;

    progress.phase(Phase::Create, None);
    let stored = Stored(&checkpoint);
    let mut cx = CreateCx::new(&checkpoint.files, &dir, &stored)
        .with_outer_terminal(terminals::outer(options.shell_job))
        .with_inherited(std::mem::take(&mut options.inherit));
    let mut created = cx.create_all().at(Phase::Create)?;

    progress.phase(Phase::Spawn, None);
    let root = checkpoint.processes[0].node.pid;
    let unfiltered = living(&checkpoint)
        .any(|(_, body)| body.threads.iter().any(|thread| thread.seccomp != Seccomp::Off));
    let place = (plan.room, plan.link);
    let mut world =
        World::begin(root, (options.sibling, unfiltered), place).of(Phase::Spawn, host(root))?;
    memory.make_objects(&checkpoint, &mut world, root).at(Phase::Memory)?;
    let forking = Instant::now();
    let terminals = Terminals::new(&checkpoint, &created);
    spawn(&mut world, root, &plan, (&mut memory, &mut cx), &terminals)?;
    let forking = forking.elapsed();
    cx.create_living(&mut created).at(Phase::Create)?;
    fill(&created, FillRank::Fresh)?;
    let terminals = Terminals::new(&checkpoint, &created);

    let pages = memory.pages();
    progress.phase(Phase::Memory, Some(pages.written * dormouse_kernel::PAGE_SIZE));
    // Goes on beside all that does not depend on contents.
    let filling = memory.begin_filling(&mut world, &mut cx)?;

    progress.phase(Phase::Install, None);
    signal_items(&mut world, &checkpoint, &created)?;
    install(&mut world, &checkpoint, &created)?;
    directories(&mut world, &checkpoint, &mut cx)?;

    progress.phase(Phase::Fill, None);
    fill(&created, FillRank::Contents)?;
    cx.finish().at(Phase::Fill)?;

    let segments = memory.finish(filling, &mut world, progress)?;

    progress.phase(Phase::Threads, None);
    groups(&mut world, &plan)?;
    terminals::arrange(&mut world, &checkpoint, &terminals, options.shell_job)?;
    outside::write(&mut world, &checkpoint, options.shell_job)?;
    let_go_of_link(&mut world, &checkpoint)?;
    locks::take(&mut world, &checkpoint, &created)?;
    notifications(&mut world, &checkpoint)?;
    zombies(&mut world, &checkpoint)?;
    leaders(&mut world, &checkpoint)?;
    stops(&mut world, &checkpoint)?;
    // What ends is reported to whoever watches it.
    fill(&created, FillRank::Watches)?;
    for (_, body) in living(&checkpoint) {
        states(&mut world, body, &checkpoint, plan.numbering)?;
    }

    let last: BTreeMap<NsPid, NsPid> =
        living(&checkpoint).map(|(process, body)| (body.space, process.node.pid)).collect();
    for (process, body) in living(&checkpoint) {
        let pid = process.node.pid;
        registers(&mut world, body, last[&body.space] == pid).of(Phase::Threads, host(pid))?;
    }
    // Nothing of a puppet is left that `/proc` could show.
    fill(&created, FillRank::Arm)?;
    signals_wait(&world, &checkpoint, &created)?;
    let connections = created.into_connections();
    if let Some(path) = &options.pidfile {
        std::fs::write(path, root.to_string())
            .map_err(|error| Cause::Own {
                call: "write",
                subject: path.display().to_string(),
                source: dormouse_kernel::Errno::from_io_error(&error)
                    .unwrap_or(dormouse_kernel::Errno::IO),
            })
            .at(Phase::Release)?;
    }
    let work = options.work.as_ref().unwrap_or(&options.images);
    stats::write_restore(work, (forking, begun.elapsed()), pages).at(Phase::Release)?;
    segments.keep().at(Phase::Release)?;
    checkpoint.files.publish_queues().at(Phase::Release)?;
    checkpoint.files.remove_links().at(Phase::Release)?;
    progress.phase(Phase::Release, None);
    network::set_free(connections, lock, tcp).at(Phase::Release)?;
    release(&checkpoint, options, world)?;
    Ok(Restored { root: host(root) })
}

/// The processes that are not zombies.
fn living(checkpoint: &Checkpoint) -> impl Iterator<Item = (&Process, &Body)> {
    checkpoint.processes.iter().filter_map(|process| Some((process, process.body.as_ref()?)))
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

fn fill(created: &CreatedFiles<'_>, rank: FillRank) -> Result<(), Error> {
    created.fill(rank, &|pid| Some(host(pid))).at(Phase::Fill)
}

/// Forks the tree, with all threads, and makes its sessions. Who is to inherit
/// memory is made when it is there.
fn spawn(
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

/// Ends a process that stands for nobody, or not any more.
fn dismiss(world: &mut World, process: NsPid, parent: NsPid) -> Result<(), Error> {
    let of = host(process);
    world.take(process).end(Ending::Exit(0)).of(Phase::Threads, of)?;
    let mut batch = Batch::new();
    batch.call(libc::SYS_wait4, [process.as_raw().into(), 0.into(), 0.into(), 0.into()]);
    world.run(parent, batch).of(Phase::Threads, of)?;
    forget_child(world, parent, Signal::CHLD).of(Phase::Threads, of)
}

/// Process groups, once everybody who is in one exists.
fn groups(world: &mut World, plan: &Plan) -> Result<(), Error> {
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

/// Takes the signal back that a parent got for a child which ended here and
/// not in its program.
fn forget_child(world: &mut World, parent: NsPid, signal: Signal) -> Result<(), Cause> {
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

/// Has tasks add those items of epolls that hang on their own signals. Their
/// fd tables hold nothing yet but the link.
fn signal_items(
    world: &mut World,
    checkpoint: &Checkpoint,
    created: &CreatedFiles<'_>,
) -> Result<(), Error> {
    for item in &checkpoint.signal_items {
        let SignalItem { adder, epoll, target, number, event, fired_by, .. } = item;
        let mut batch = Batch::new();
        let event = batch.data(event);
        let link = world.link();
        // Above what a fetch gives, and in nobody's way.
        let mut free = (4..).filter(|&free| free != u64::from(*number) && free != link);
        let mut held = |file| {
            let slot = world.fetch(&mut batch, created.get(file));
            let to = free.next().unwrap_or(link);
            batch.call(libc::SYS_dup3, [(&slot).into(), to.into(), 0.into()]);
            batch.call(libc::SYS_close, [(&slot).into()]);
            to
        };
        let (epoll, target) = (held(*epoll), held(*target));
        batch.call(libc::SYS_dup3, [target.into(), (*number).into(), 0.into()]);
        let add = [epoll.into(), libc::EPOLL_CTL_ADD.into(), (*number).into(), event.into()];
        match fired_by {
            None => drop(batch.call(libc::SYS_epoll_ctl, add)),
            Some(signal) => fire(&mut batch, epoll, add, *signal),
        }
        for held in [epoll, target, u64::from(*number)] {
            batch.call(libc::SYS_close, [held.into()]);
        }
        world.run(*adder, batch).of(Phase::Install, host(*adder))?;
    }
    Ok(())
}

/// Has those items of epolls hear signals that were to report none of those which wait now. No puppet
/// signals itself any more; what has come since the program's signals were put back, by a timer, is
/// reported.
fn signals_wait(
    world: &World,
    checkpoint: &Checkpoint,
    created: &CreatedFiles<'_>,
) -> Result<(), Error> {
    let deaf = || checkpoint.signal_items.iter().filter(|item| item.is_deaf());
    for item in deaf() {
        item.listen(created, false).at(Phase::Threads)?;
    }
    let adders: BTreeSet<NsPid> = deaf().map(|item| item.adder).collect();
    let tasks: BTreeMap<HostPid, &Stopped> =
        world.ready().iter().map(|task| (task.tid(), task)).collect();
    for (process, body) in living(checkpoint) {
        let pid = process.node.pid;
        if adders.contains(&pid) && has_more(&tasks, body).of(Phase::Threads, host(pid))? {
            for item in deaf().filter(|item| item.adder == pid) {
                item.listen(created, true).of(Phase::Threads, host(pid))?;
            }
        }
    }
    Ok(())
}

/// Whether more signals wait for a process than did when it was dumped.
fn has_more(tasks: &BTreeMap<HostPid, &Stopped>, body: &Body) -> Result<bool, Cause> {
    let mut expected = body.state.pending.signals().len();
    let (mut of_threads, mut of_process) = (0, 0);
    for thread in &body.threads {
        let Some(task) = tasks.get(&host(thread.tid)) else { continue };
        expected += thread.state.pending.signals().len();
        of_threads += ThreadPending::peek(task)?.signals().len();
        // The same for each.
        of_process = ProcessPending::peek(task)?.signals().len();
    }
    Ok(of_threads + of_process > expected)
}

/// Adds a one-shot on a signalfd while a signal waits for the task, and has it
/// reported. The signal is taken back, and nobody delivers it meanwhile.
fn fire(batch: &mut Batch, epoll: u64, add: [Arg; 4], signal: Signal) {
    // More than are ever in front of it: level-triggered exclusive ones.
    const MOST: usize = 512;
    let size = size_of::<SigSet>() as u64;
    let all = batch.data(&u64::MAX.to_ne_bytes());
    let before = batch.out(size_of::<SigSet>());
    let own = batch.data(&SigSet::from_raw(0).with(signal).as_raw().to_ne_bytes());
    let at_once = batch.data(&[0; 16]);
    let reports = batch.out(MOST * size_of::<libc::epoll_event>());
    let mask = |batch: &mut Batch, new: Arg, old: Arg| {
        batch.call(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK.into(), new, old, size.into()]);
    };
    mask(batch, all.into(), (&before).into());
    let pid = batch.call(libc::SYS_getpid, []);
    let tid = batch.call(libc::SYS_gettid, []);
    batch.call(libc::SYS_tgkill, [(&pid).into(), (&tid).into(), signal.as_raw().into()]);
    batch.call(libc::SYS_epoll_ctl, add);
    let most = (MOST as u64).into();
    batch.call(libc::SYS_epoll_wait, [epoll.into(), (&reports).into(), most, 0.into()]);
    batch.call(libc::SYS_rt_sigtimedwait, [own.into(), 0.into(), at_once.into(), size.into()]);
    mask(batch, (&before).into(), 0.into());
}

/// Has processes ask again to be told of messages in queues.
fn notifications(world: &mut World, checkpoint: &Checkpoint) -> Result<(), Error> {
    for notification in checkpoint.files.notifications() {
        let mut batch = Batch::new();
        notification.register(&mut batch);
        let process = notification.process;
        world.run(process, batch).of(Phase::Threads, host(process))?;
    }
    Ok(())
}

/// Fills every fd table, each through one task that uses it.
fn install(
    world: &mut World,
    checkpoint: &Checkpoint,
    created: &CreatedFiles<'_>,
) -> Result<(), Error> {
    let mut done = BTreeSet::new();
    for (_, body) in living(checkpoint) {
        for thread in &body.threads {
            if !done.insert(thread.table) {
                continue;
            }
            let table = &checkpoint.tables[&thread.table];
            let mut batch = Batch::new();
            // The kernel gives the lowest free number. Descending order would
            // need no thought, but dup3 for every one.
            let link = world.link();
            let free_from = |number: u32| number + u32::from(u64::from(number) == link);
            let mut lowest = free_from(0);
            for descriptor in &table.entries {
                let wanted = descriptor.fd.as_raw();
                let slot = world.fetch(&mut batch, created.get(descriptor.file));
                let flags = if descriptor.close_on_exec { libc::O_CLOEXEC } else { 0 };
                if wanted == lowest {
                    lowest = free_from(lowest + 1);
                    if !descriptor.close_on_exec {
                        batch.call(
                            libc::SYS_fcntl,
                            [(&slot).into(), libc::F_SETFD.into(), 0.into()],
                        );
                    }
                } else {
                    batch.call(libc::SYS_dup3, [(&slot).into(), wanted.into(), flags.into()]);
                    batch.call(libc::SYS_close, [(&slot).into()]);
                }
            }
            world.run(thread.tid, batch).of(Phase::Install, host(thread.tid))?;
        }
    }
    Ok(())
}

/// Working and root directories, umasks.
fn directories(
    world: &mut World,
    checkpoint: &Checkpoint,
    cx: &mut CreateCx<'_>,
) -> Result<(), Error> {
    const PHASE: Phase = Phase::Install;
    let own_root = rustix::fs::stat("/").map_err(|source| Cause::Own {
        call: "stat",
        subject: "/".to_owned(),
        source,
    });
    let own_root = own_root.at(PHASE)?;
    let mut done = BTreeSet::new();
    for thread in living(checkpoint).flat_map(|(_, body)| &body.threads) {
        if !done.insert(thread.directories.number) {
            continue;
        }
        let of = host(thread.tid);
        let mut batch = Batch::new();
        let cwd = cx.open_path(thread.directories.cwd).of(PHASE, of)?;
        let root = cx.open_path(thread.directories.root).of(PHASE, of)?;
        let stat = rustix::fs::fstat(&root).map_err(|source| Cause::Own {
            call: "fstat",
            subject: "the root directory".to_owned(),
            source,
        });
        let stat = stat.of(PHASE, of)?;
        let changed = (stat.st_dev, stat.st_ino) != (own_root.st_dev, own_root.st_ino);
        let cwd_slot = world.fetch(&mut batch, cwd.as_fd());
        let root_slot = changed.then(|| world.fetch(&mut batch, root.as_fd()));
        thread.directories.state.apply(
            &mut batch,
            (&cwd_slot).into(),
            root_slot.as_ref().map(Into::into),
        );
        batch.call(libc::SYS_close, [(&cwd_slot).into()]);
        if let Some(slot) = root_slot {
            batch.call(libc::SYS_close, [(&slot).into()]);
        }
        world.run(thread.tid, batch).of(PHASE, of)?;
    }
    Ok(())
}

/// Closes the link to dormouse in every fd table.
fn let_go_of_link(world: &mut World, checkpoint: &Checkpoint) -> Result<(), Error> {
    let mut tables = BTreeMap::new();
    for thread in living(checkpoint).flat_map(|(_, body)| &body.threads) {
        tables.entry(thread.table).or_insert(thread.tid);
    }
    for task in tables.into_values() {
        let mut batch = Batch::new();
        batch.call(libc::SYS_close, [world.link().into()]);
        world.run(task, batch).of(Phase::Threads, host(task))?;
    }
    Ok(())
}

/// Ends those that are to be zombies, children before their parents.
fn zombies(world: &mut World, checkpoint: &Checkpoint) -> Result<(), Error> {
    for process in checkpoint.processes.iter().rev() {
        let Life::Zombie { status } = process.life else { continue };
        let pid = process.node.pid;
        let ending = match Signal::from_raw((status & 0x7f).cast_signed()) {
            Some(signal) => Ending::Signal(signal),
            None => Ending::Exit((status >> 8 & 0xff) as u8),
        };
        let mut batch = Batch::new();
        name(process, &mut batch);
        world.run(pid, batch).of(Phase::Threads, host(pid))?;
        let told = process.node.parent.zip(process.exit_signal);
        if let Some((parent, signal)) = told {
            // It is not to be taken for the end of a batch.
            let others = living(checkpoint).filter(|(other, _)| other.node.pid == parent);
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
fn leaders(world: &mut World, checkpoint: &Checkpoint) -> Result<(), Error> {
    for (process, body) in living(checkpoint) {
        let Some(code) = body.leader_code else { continue };
        let of = host(process.node.pid);
        let mut batch = Batch::new();
        name(process, &mut batch);
        // They decide who may send signals to the process, and the images do
        // not tell those of the leader.
        body.threads[0].state.credentials.apply(&mut batch);
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
fn stops(world: &mut World, checkpoint: &Checkpoint) -> Result<(), Error> {
    const PHASE: Phase = Phase::Threads;
    for (process, body) in living(checkpoint) {
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

/// Everything that a process and its threads have of their own.
fn states(
    world: &mut World,
    body: &Body,
    checkpoint: &Checkpoint,
    numbering: Numbering,
) -> Result<(), Error> {
    const PHASE: Phase = Phase::Threads;
    let filters = &checkpoint.filters;
    let dumpable = checkpoint.spaces[&body.space].memory.mm.dumpable;
    let first = body.threads[0].tid;
    let expected = expected(body);
    for thread in body.threads.iter().rev() {
        world.puppet(thread.tid).avoid(expected).of(PHASE, host(thread.tid))?;
    }
    let common = filter_all(world, filters, body).of(PHASE, host(first))?;
    for thread in body.threads.iter().rev() {
        let mut batch = Batch::new();
        // Puppets are not filtered, and may lose the right to be.
        filters.apply(thread.seccomp, common, &mut batch);
        if thread.tid == first {
            // Before signals that wait: it takes out some of its own.
            body.timers.apply(numbering, &mut batch);
            body.state.apply(&mut batch);
        }
        thread.undo.apply(&mut batch);
        thread.state.apply(&mut batch);
        if thread.tid == first {
            let dumpable = i32::from(dumpable.as_raw() == 1);
            batch.call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE.into(), dumpable.into()]);
        }
        world.run(thread.tid, batch).of(PHASE, host(thread.tid))?;
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

/// Gives every thread its registers. The first comes last, and unmaps the room
/// if no other process still has it there.
fn registers(world: &mut World, body: &Body, is_last: bool) -> Result<(), Cause> {
    for (index, thread) in body.threads.iter().enumerate().rev() {
        let Cpu { registers, xstate } = &thread.cpu;
        let mask = thread.state.mask.get();
        let resumption = thread
            .interrupted
            .map(|interruption| Resumption { interruption, time_left: thread.time_left });
        let puppet = world.take(thread.tid);
        let vacate = is_last && index == 0;
        let mut task = puppet.become_program((registers, xstate), mask, resumption, vacate)?;
        thread.dispatch.set(&mut task)?;
        world.put_ready(task);
    }
    Ok(())
}

/// Lets the tree run.
fn release(checkpoint: &Checkpoint, options: &RestoreOptions, world: World) -> Result<(), Error> {
    for (process, _) in living(checkpoint) {
        let runs = process.life == Life::Running;
        if runs
            && options.leave_stopped
            && let Some(pid) = rustix::process::Pid::from_raw(process.node.pid.as_raw())
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::STOP);
        }
    }
    // Children before their parents.
    world.release().or_else(|error| {
        let tid = error.tid();
        Err(error).of(Phase::Release, tid)
    })
}
