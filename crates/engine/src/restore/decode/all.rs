//! Reads and judges all images, and whether they agree.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_image::proto::inventory::InventoryEntry;
use dormouse_image::proto::namespace::ipc::IpcShmEntry;
use dormouse_image::proto::pstree::PstreeEntry;
use dormouse_image::{ImageDir, ImageName};
use dormouse_kernel::{Addr, FdNum, NsPid};
use dormouse_resources::file::{
    Adder, FdTable, FdTableId, FileId, ImageSource, Lock, Notification, SignalItem,
};
use dormouse_resources::memory::{HOST_IPC, KernelVdso, PagesFiles, SavedObject, Segments};
use dormouse_resources::task::{Filters, Keys, decode_tree};

use super::checkpoint::{Checkpoint, Process, Thread, host};
use super::process::{Spaces, decode_process};
use crate::cause::{At, Cause};
use crate::{Error, Phase, TcpConnections};

pub(in crate::restore) fn contradiction(image: ImageName, reason: &'static str) -> Cause {
    Cause::Contradiction { image, reason }
}

/// The number of a task in the names of its images.
pub(super) fn number(pid: NsPid) -> u32 {
    pid.as_raw().unsigned_abs()
}

const PHASE: Phase = Phase::Decode;

/// Reads the images of `dir`, which have this inventory; `tcp` is what is to become of TCP connections.
pub(in crate::restore) fn decode(
    dir: &ImageDir,
    inventory: &InventoryEntry,
    tcp: TcpConnections,
) -> Result<Checkpoint, Error> {
    let entries = dir.get_all::<PstreeEntry>(ImageName::PsTree).at(PHASE)?;
    let nodes = decode_tree(entries).at(PHASE)?;
    let mut source = ImageSource::open(dir).at(PHASE)?.with_tcp(tcp);
    let mut tables = BTreeMap::new();
    let mut pages = PagesFiles::new();
    let filters = Filters::decode(dir).at(PHASE)?;
    let keys = inventory.keys.clone().map(Keys::decode).transpose().at(PHASE)?;
    let common = (&filters, keys.as_ref());
    let image = ImageName::IpcShm(HOST_IPC);
    let segments = dir.get_all::<IpcShmEntry>(image).at(PHASE)?;
    let segments = Segments::decode(image, &segments).at(PHASE)?;
    let kernel = KernelVdso::probe().at(PHASE)?;
    let mut processes: Vec<Process> = Vec::with_capacity(nodes.len());
    let mut spaces = Spaces::default();
    let mut running: BTreeMap<NsPid, Vec<Addr>> = BTreeMap::new();
    let mut handlers: BTreeMap<u32, NsPid> = BTreeMap::new();
    for node in nodes {
        let pid = host(node.pid);
        let process = decode_process(dir, node, common, &mut spaces, (&mut source, &mut pages))
            .of(PHASE, pid)?;
        if let Some(body) = &process.body {
            let threads = body.threads.iter();
            let at = threads.map(|thread| Addr::from_raw(thread.cpu.registers.rip));
            running.entry(body.space).or_default().extend(at);
            if *handlers.entry(body.handlers).or_insert(body.space) != body.space {
                let image = ImageName::Ids(number(process.node.pid));
                let reason = "it shares signal handlers with a process, and no memory";
                return Err(contradiction(image, reason)).of(PHASE, pid);
            }
        }
        if let Some(thread) = process.parent_thread {
            let parent = processes.iter().find(|other| Some(other.node.pid) == process.node.parent);
            if parent.is_none_or(|parent| {
                parent.body.is_none() || !parent.node.threads.contains(&thread)
            }) {
                let image = ImageName::Core(number(process.node.pid));
                let reason = "it is the child of a thread that its parent does not have";
                return Err(contradiction(image, reason)).of(PHASE, pid);
            }
        }
        for thread in process.body.iter().flat_map(|body| &body.threads) {
            let id = thread.table;
            if let std::collections::btree_map::Entry::Vacant(place) = tables.entry(id) {
                place.insert(FdTable::decode(id, &mut source).of(PHASE, pid)?);
            }
        }
        processes.push(process);
    }
    let mut spaces = spaces.read;
    for (&pid, space) in &mut spaces {
        let running = running.remove(&pid).unwrap_or_default();
        space.memory.find_segments(&segments).of(PHASE, host(pid))?;
        let adapted = space.memory.adapt_vdso(kernel.as_ref(), running, &mut pages);
        adapted.of(PHASE, host(pid))?;
    }
    let locks = Lock::decode_all(dir).at(PHASE)?;
    let locks = crate::restore::locks::find(locks, &processes, &tables).at(PHASE)?;
    let files = source.finish().at(PHASE)?;
    if processes[0].body.is_none() {
        return Err(contradiction(ImageName::PsTree, "the root is a zombie")).at(PHASE);
    }
    let leaders: BTreeMap<NsPid, &Thread> = processes
        .iter()
        .filter_map(|it| it.body.as_ref().filter(|body| body.leader_code.is_none()))
        .map(|body| (body.threads[0].tid, &body.threads[0]))
        .collect();
    let can_be = |notification: &Notification| {
        let leader = leaders.get(&notification.process);
        leader.is_some_and(|it| files.can_notify(notification, |fd| tables[&it.table].file(fd)))
    };
    if !files.notifications().all(can_be) {
        let reason = "a process is told of messages in a queue that it does not have";
        return Err(contradiction(ImageName::Mqueue, reason)).at(PHASE);
    }
    let pids: BTreeSet<NsPid> = processes.iter().map(|it| it.node.pid).collect();
    let holder = |file| holder(&processes, &tables, file).map(|(pid, _)| pid);
    let signal_items = files.signal_items(holder);
    let signal_items =
        signal_items.map_err(|reason| contradiction(ImageName::Files, reason)).at(PHASE)?;
    let is_there = |item: &SignalItem| match item.adder {
        Adder::Process(pid) => pids.contains(&pid),
        Adder::Ended => true,
    };
    if !signal_items.iter().all(is_there) {
        let reason = "an epoll watches signals of a process that is none";
        return Err(contradiction(ImageName::Files, reason)).at(PHASE);
    }
    let tasks = processes.iter().flat_map(|it| it.node.threads.iter().chain([&it.node.pid]));
    let tasks: BTreeSet<NsPid> = tasks.copied().collect();
    if files.tasks().any(|task| !tasks.contains(&task)) {
        let reason = "a pidfd is of a task that is not of the tree";
        return Err(contradiction(ImageName::Files, reason)).at(PHASE);
    }
    let living: BTreeSet<NsPid> = processes
        .iter()
        .filter_map(|process| process.body.as_ref())
        .flat_map(|body| body.threads.iter().map(|thread| thread.tid))
        .collect();
    if files.tasks_of_rings().any(|task| !living.contains(&task)) {
        let reason = "an io_uring is of a task that is not of the tree";
        return Err(contradiction(ImageName::Files, reason)).at(PHASE);
    }
    if files.userfaultfds_of_tasks().any(|(_, task, _)| !living.contains(&task)) {
        let reason = "a userfaultfd is about the memory of a task that is not of the tree";
        return Err(contradiction(ImageName::Files, reason)).at(PHASE);
    }
    let mut objects = BTreeMap::new();
    for name in dir.names().at(PHASE)? {
        if let ImageName::PagemapShmem(id) = name {
            let (id, object) = SavedObject::decode(dir, id, &mut pages).at(PHASE)?;
            objects.insert(id, object);
        }
    }
    // By-products of whoever made the dump.
    let by_products = [ImageName::TimeNs(0), ImageName::Cgroup];
    for name in by_products {
        drop(dir.find_file(name).at(PHASE)?);
    }
    if let Some(name) = dir.unread().at(PHASE)?.into_iter().next() {
        return Err(Cause::Unread(name.to_string_lossy().into_owned())).at(PHASE);
    }
    Ok(Checkpoint {
        processes,
        spaces,
        files,
        tables,
        signal_items,
        locks,
        objects,
        segments,
        filters,
        keys,
        pages: pages.into(),
    })
}

/// A process that has this file open, and the number there.
pub(super) fn holder(
    processes: &[Process],
    tables: &BTreeMap<FdTableId, FdTable>,
    file: FileId,
) -> Option<(NsPid, FdNum)> {
    let number = |id| {
        let own = tables[&id].entries.iter().find(|own| own.file.id() == file);
        own.map(|own| own.fd)
    };
    let bodies = processes.iter().filter_map(|it| Some((it.node.pid, it.body.as_ref()?)));
    let mut threads = bodies.flat_map(|(pid, body)| body.threads.iter().map(move |it| (pid, it)));
    threads.find_map(|(pid, thread)| Some((pid, number(thread.table)?)))
}
