//! Reads and judges all images, before the first process is created.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dormouse_image::proto::core::{CoreEntry, TaskKobjIdsEntry};
use dormouse_image::proto::fs::FsEntry;
use dormouse_image::proto::namespace::ipc::IpcShmEntry;
use dormouse_image::proto::pstree::PstreeEntry;
use dormouse_image::{ImageDir, ImageName};
use dormouse_kernel::signal::{SigInfo, Signal};
use dormouse_kernel::{Addr, HostPid, NsPid};
use dormouse_puppet::Interruption;
use dormouse_resources::file::{
    FdTable, FdTableId, FileId, FileRef, Files, ImageSource, Lock, Notification, SignalItem, Use,
};
use dormouse_resources::memory::{
    Backing, HOST_IPC, KernelVdso, PagesFiles, SavedMemory, SavedObject, Segments, ShmemId,
};
use dormouse_resources::task::{
    Cpu, Filters, FsState, Life, Outside, PosixTimers, ProcessState, Seccomp, SemaphoreUndo,
    SyscallDispatch, ThreadState, TreeNode, decode_tree,
};

use crate::cause::{At, Cause};
use crate::{Error, Phase, TcpConnections};

const PHASE: Phase = Phase::Decode;

/// A checkpoint, judged: nothing that comes later looks at an image again.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    /// The processes, the root first and every parent before its children.
    pub(crate) processes: Vec<Process>,
    /// The address spaces, by the first process that has each.
    pub(crate) spaces: BTreeMap<NsPid, Space>,
    /// Every file.
    pub(crate) files: Files,
    /// Every fd table.
    pub(crate) tables: BTreeMap<FdTableId, FdTable>,
    /// Items of epolls on signalfds.
    pub(crate) signal_items: Vec<SignalItem>,
    /// Locks, each with the file it is on.
    pub(crate) locks: Vec<(Lock, FileRef)>,
    /// Every shared memory object, be it mapped or the inode of a memfd.
    pub(crate) objects: BTreeMap<ShmemId, SavedObject>,
    /// System V segments that are attached.
    pub(crate) segments: Segments,
    /// Seccomp filters.
    pub(crate) filters: Filters,
    /// The contents of all memory.
    pub(crate) pages: Arc<PagesFiles>,
}

/// A process.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its place in the tree.
    pub(crate) node: TreeNode,
    /// Whether it runs.
    pub(crate) life: Life,
    /// If it is stopped, whether its parent has been told already.
    pub(crate) stop_seen: bool,
    /// Whether it has given up the terminal that controls its session.
    pub(crate) without_terminal: bool,
    /// What tells its parent of its end.
    pub(crate) exit_signal: Option<Signal>,
    /// The thread of its parent that it is a child of, if not the leader.
    pub(crate) parent_thread: Option<NsPid>,
    /// Its name.
    pub(crate) name: String,
    /// What it has, unless it is a zombie.
    pub(crate) body: Option<Body>,
}

/// What a living process has.
#[derive(Debug)]
pub(crate) struct Body {
    /// What it has as a whole.
    pub(crate) state: ProcessState,
    /// What dormouse writes to `/proc`.
    pub(crate) outside: Outside,
    /// Its POSIX timers.
    pub(crate) timers: PosixTimers,
    /// The first process that has its address space.
    pub(crate) space: NsPid,
    /// The number of its signal handlers; who has the same shares them.
    pub(crate) handlers: u32,
    /// What `exit(2)` was given by the leader, if that has ended and other
    /// threads go on.
    pub(crate) leader_code: Option<u8>,
    /// Its threads, the leader first unless it has ended.
    pub(crate) threads: Vec<Thread>,
}

/// An address space.
#[derive(Debug)]
pub(crate) struct Space {
    /// What is in it.
    pub(crate) memory: SavedMemory,
    /// Files that are mapped or executed.
    pub(crate) mapped: BTreeMap<FileId, FileRef>,
}

/// The address spaces that were read, and which process had which number
/// first.
#[derive(Default)]
struct Spaces {
    read: BTreeMap<NsPid, Space>,
    first: BTreeMap<u32, NsPid>,
}

/// A thread.
#[derive(Debug)]
pub(crate) struct Thread {
    /// Its tid.
    pub(crate) tid: NsPid,
    /// Its registers.
    pub(crate) cpu: Cpu,
    /// How a call was interrupted, which the registers make again.
    pub(crate) interrupted: Option<Interruption>,
    /// What was left of that call's time-out.
    pub(crate) time_left: Option<Duration>,
    /// What keeps it from making calls.
    pub(crate) seccomp: Seccomp,
    /// What its program handles of its system calls.
    pub(crate) dispatch: SyscallDispatch,
    /// Everything else.
    pub(crate) state: ThreadState,
    /// What is undone when it ends, unless another task has the same.
    pub(crate) undo: SemaphoreUndo,
    /// The first task that has the same.
    pub(crate) undo_owner: NsPid,
    /// Its fd table.
    pub(crate) table: FdTableId,
    /// Its directories, with a number that tells who shares them.
    pub(crate) directories: Directories,
}

/// Which tasks share root, working directory and umask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DirectoriesId {
    /// Those of a process: the number of its kernel object.
    Process(u32),
    /// Those of threads that are not those of their process: the number of
    /// the image.
    Threads(u32),
}

/// Root, working directory and umask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Directories {
    /// Tasks with the same number share them.
    pub(crate) number: DirectoriesId,
    /// The values.
    pub(crate) state: FsState,
    /// The working directory.
    pub(crate) cwd: FileRef,
    /// The root directory.
    pub(crate) root: FileRef,
}

pub(super) fn contradiction(image: ImageName, reason: &'static str) -> Cause {
    Cause::Contradiction { image, reason }
}

/// The number of a task in the names of its images.
fn number(pid: NsPid) -> u32 {
    pid.as_raw().unsigned_abs()
}

/// A tree in the initial namespaces has the same pids inside and outside.
pub(crate) fn host(pid: NsPid) -> HostPid {
    HostPid::from_raw(pid.as_raw()).expect("a pid is positive")
}

/// Reads the images of `dir`; `tcp` is what is to become of TCP connections.
pub(crate) fn decode(dir: &ImageDir, tcp: TcpConnections) -> Result<Checkpoint, Error> {
    let entries = dir.get_all::<PstreeEntry>(ImageName::PsTree).at(PHASE)?;
    let nodes = decode_tree(entries).at(PHASE)?;
    let mut source = ImageSource::open(dir).at(PHASE)?.with_tcp(tcp);
    let mut tables = BTreeMap::new();
    let mut pages = PagesFiles::new();
    let filters = Filters::decode(dir).at(PHASE)?;
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
        let process = decode_process(dir, node, &filters, &mut spaces, (&mut source, &mut pages))
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
    let locks = super::locks::find(locks, &processes, &tables).at(PHASE)?;
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
    let lives = |pid| processes.iter().any(|it| it.node.pid == pid && it.body.is_some());
    let holder = |file| holder(&processes, &tables, file);
    let signal_items = files.signal_items(holder);
    let signal_items =
        signal_items.map_err(|reason| contradiction(ImageName::Files, reason)).at(PHASE)?;
    if signal_items.iter().any(|item| !lives(item.adder)) {
        let reason = "an epoll watches signals of a process that is none";
        return Err(contradiction(ImageName::Files, reason)).at(PHASE);
    }
    let tasks = processes.iter().flat_map(|it| it.node.threads.iter().chain([&it.node.pid]));
    let tasks: BTreeSet<NsPid> = tasks.copied().collect();
    if files.tasks().any(|task| !tasks.contains(&task)) {
        let reason = "a pidfd is of a task that is not of the tree";
        return Err(contradiction(ImageName::Files, reason)).at(PHASE);
    }
    let mut objects = BTreeMap::new();
    for name in dir.list().at(PHASE)?.into_keys() {
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
        pages: pages.into(),
    })
}

/// A process that has this file open.
fn holder(
    processes: &[Process],
    tables: &BTreeMap<FdTableId, FdTable>,
    file: FileId,
) -> Option<NsPid> {
    let holds = |id| tables[&id].entries.iter().any(|own| own.file.id() == file);
    let bodies = processes.iter().filter_map(|it| Some((it.node.pid, it.body.as_ref()?)));
    let mut threads = bodies.flat_map(|(pid, body)| body.threads.iter().map(move |it| (pid, it)));
    threads.find(|(_, thread)| holds(thread.table)).map(|(pid, _)| pid)
}

fn decode_process(
    dir: &ImageDir,
    node: TreeNode,
    filters: &Filters,
    spaces: &mut Spaces,
    (source, pages): (&mut ImageSource<'_>, &mut PagesFiles),
) -> Result<Process, Cause> {
    let pid = number(node.pid);
    let core: CoreEntry = dir.get_one(ImageName::Core(pid))?;
    let life = Life::decode(&core)?;
    let name = core.tc.as_ref().map(|tc| tc.comm.clone()).unwrap_or_default();
    let name = String::from_utf8_lossy(&name).into_owned();
    let stop_seen = core.tc.as_ref().and_then(|tc| tc.stop_seen).unwrap_or(false);
    let without_terminal = core.tc.as_ref().and_then(|tc| tc.without_terminal).unwrap_or(false);
    let (exit_signal, parent_thread) = decode_birth(pid, &core)?;
    if let Life::Zombie { .. } = life {
        // CRIU writes them for zombies as well, and nothing in them counts.
        drop(dir.find_file(ImageName::Ids(pid))?);
        let body = None;
        return Ok(Process {
            node,
            life,
            stop_seen,
            without_terminal,
            exit_signal,
            parent_thread,
            name,
            body,
        });
    }
    let ids: TaskKobjIdsEntry = dir.get_one(ImageName::Ids(pid))?;
    let space = *spaces.first.entry(ids.vm_id).or_insert(node.pid);
    if space == node.pid {
        spaces.read.insert(space, Space::decode(dir, pid, (source, pages))?);
    }
    let leader_code = decode_leader(&node, &core)?;
    let process = Directories::read(dir, pid, DirectoriesId::Process(ids.fs_id), source)?;
    let mut threads = Vec::with_capacity(node.threads.len());
    for &tid in &node.threads[usize::from(leader_code.is_some())..] {
        let own;
        let core = if tid == node.pid {
            &core
        } else {
            own = dir.get_one::<CoreEntry>(ImageName::Core(number(tid)))?;
            &own
        };
        let first = threads.first().map(|first: &Thread| first.undo_owner);
        let shares = (&ids, process, first.unwrap_or(tid));
        threads.push(decode_thread(dir, tid, core, filters, shares, source)?);
    }
    let state = ProcessState::decode(&core)?;
    let first = threads[0].seccomp;
    for thread in &mut threads {
        thread.seccomp = filters.of_thread(thread.seccomp, first);
        thread.hide_interruption(state.pending.signals());
    }
    let timers = PosixTimers::decode(&core, &node.threads)?;
    let outside = Outside::decode(&core)?;
    let handlers = ids.sighand_id;
    let body = Some(Body { state, outside, timers, space, handlers, leader_code, threads });
    Ok(Process { node, life, stop_seen, without_terminal, exit_signal, parent_thread, name, body })
}

/// What the leader has given to `exit(2)`, if other threads go on without it.
fn decode_leader(node: &TreeNode, core: &CoreEntry) -> Result<Option<u8>, Cause> {
    let Some(status) = core.tc.as_ref().and_then(|tc| tc.leader_status) else { return Ok(None) };
    let bad = |reason| contradiction(ImageName::Core(number(node.pid)), reason);
    if node.threads.len() == 1 {
        return Err(bad("its only thread has ended"));
    }
    let [0, code, 0, 0] = status.to_le_bytes() else {
        return Err(bad("its first thread has ended as no thread can"));
    };
    Ok(Some(code))
}

/// What ties a process to its parent: the signal that tells of its end, and
/// the thread it belongs to.
fn decode_birth(pid: u32, core: &CoreEntry) -> Result<(Option<Signal>, Option<NsPid>), Cause> {
    let bad = |reason| contradiction(ImageName::Core(pid), reason);
    let tc = core.tc.as_ref();
    let number = |raw: u32| i32::try_from(raw).ok();
    let exit_signal = match tc.and_then(|tc| tc.exit_signal) {
        None => Some(Signal::CHLD),
        Some(0) => None,
        Some(raw) => {
            let signal = number(raw).and_then(Signal::from_raw);
            Some(signal.ok_or_else(|| bad("its end is told by something that is no signal"))?)
        }
    };
    let parent_thread = match tc.and_then(|tc| tc.parent_tid) {
        None => None,
        Some(raw) => {
            let thread = number(raw).and_then(NsPid::from_raw);
            Some(thread.ok_or_else(|| bad("it is the child of something that is no thread"))?)
        }
    };
    Ok((exit_signal, parent_thread))
}

impl Space {
    fn decode(
        dir: &ImageDir,
        pid: u32,
        (source, pages): (&mut ImageSource<'_>, &mut PagesFiles),
    ) -> Result<Self, Cause> {
        let image = ImageName::Mm(pid);
        let memory = SavedMemory::decode(dir, pid, pages)?;
        let mm = &memory.mm;
        let mut mapped = BTreeMap::new();
        let mut reference = |file: FileId, object, id| {
            let place = (image, object, id);
            mapped.entry(file).or_insert_with(|| source.file_ref(file.as_raw(), Use::Inode, place));
        };
        reference(mm.exe, "executable", 0);
        for vma in &mm.vmas {
            if let Backing::File { file, .. } = vma.backing {
                reference(file.file, "mapping", vma.range.start().as_raw());
            }
        }
        Ok(Self { memory, mapped })
    }
}

impl Directories {
    fn read(
        dir: &ImageDir,
        task: u32,
        number: DirectoriesId,
        source: &mut ImageSource<'_>,
    ) -> Result<Self, Cause> {
        let image = ImageName::Fs(task);
        let entry: FsEntry = dir.get_one(image)?;
        let state = FsState::decode(task, &entry)?;
        let mut reference = |file: FileId, object| {
            source.file_ref(file.as_raw(), Use::Inode, (image, object, task.into()))
        };
        let cwd = reference(state.cwd, "working directory");
        let root = reference(state.root, "root directory");
        Ok(Self { number, state, cwd, root })
    }
}

impl Thread {
    /// CRIU lets a call that its dump has interrupted end with `EINTR`. The
    /// registers still tell which call it was, and here it is made again;
    /// unless a signal waits: then the `EINTR` is the program's own.
    fn hide_interruption(&mut self, of_process: &[SigInfo]) {
        let mask = self.state.mask.get();
        let waiting = self.state.pending.signals().iter().chain(of_process);
        let awaits = waiting.filter_map(SigInfo::signal).any(|signal| !mask.contains(signal));
        if self.interrupted.is_none()
            && !awaits
            && let Some(interruption) = Interruption::of_eintr(&self.cpu.registers)
        {
            self.interrupted = Some(interruption);
            self.cpu.registers = Interruption::call_again(&self.cpu.registers);
        }
    }
}

fn decode_thread(
    dir: &ImageDir,
    tid: NsPid,
    core: &CoreEntry,
    filters: &Filters,
    (ids, process, undo_owner): (&TaskKobjIdsEntry, Directories, NsPid),
    source: &mut ImageSource<'_>,
) -> Result<Thread, Cause> {
    let image = ImageName::Core(number(tid));
    let extension = core.thread_core.as_ref();
    let interrupted = match extension.and_then(|thread| thread.interrupted) {
        None => None,
        Some(code) => Some(
            Interruption::from_code(code)
                .ok_or_else(|| contradiction(image, "no call is interrupted with that answer"))?,
        ),
    };
    let table = extension.and_then(|thread| thread.files_id).unwrap_or(ids.files_id);
    let directories = match extension.and_then(|thread| thread.fs_id) {
        None => process,
        Some(shared) => Directories::read(dir, shared, DirectoriesId::Threads(shared), source)?,
    };
    let undo_owner = match extension.and_then(|thread| thread.undo_tid) {
        None => undo_owner,
        Some(raw) => i32::try_from(raw)
            .ok()
            .and_then(NsPid::from_raw)
            .ok_or_else(|| contradiction(image, "it undoes what no task does"))?,
    };
    let undo = SemaphoreUndo::decode(core)?;
    if undo_owner != tid && undo != SemaphoreUndo::default() {
        return Err(contradiction(image, "it undoes what another task does, and something else"));
    }
    Ok(Thread {
        tid,
        cpu: Cpu::decode(core)?,
        interrupted,
        time_left: extension.and_then(|thread| thread.time_left).map(Duration::from_nanos),
        seccomp: Seccomp::decode(core, filters)?,
        dispatch: SyscallDispatch::decode(core)?,
        state: ThreadState::decode(core)?,
        undo,
        undo_owner,
        table: FdTableId::from_raw(table),
        directories,
    })
}
