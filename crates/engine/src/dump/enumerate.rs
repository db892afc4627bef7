//! Lists what the stopped tree has: who shares what, every open file
//! description with its number, every mapping.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use dormouse_kernel::kcmp::Shared;
use dormouse_kernel::pidfd::PidFd;
use dormouse_kernel::proc::{Entry, ProcDir, Status};
use dormouse_kernel::{DeviceId, Errno, FdNum, HostPid};
use dormouse_resources::file::{
    self, Descriptor, FdTable, FileId, FileIndex, Holder, Identity, Locks, Mounts, Probe, Sighting,
    UnixSurvey,
};
use dormouse_resources::memory::{Enumerated, MappedFile, Mappings, SharedObjects, Uprobes};
use dormouse_resources::task::{FsState, SyscallDispatch};
use dormouse_resources::{self as resources, memory};
use rustix::fs::OFlags;

use super::frozen::Frozen;
use super::semaphores::Undo;
use super::sharing::{Hint, Sharing};
use crate::cause::{At, Cause};
use crate::{Error, Phase};

/// Everything the tree has, by number.
#[derive(Debug)]
pub(crate) struct Census {
    /// `status` of every task, by tid.
    pub(crate) status: BTreeMap<HostPid, Status>,
    /// What the programs of tasks handle of their system calls.
    pub(crate) dispatch: BTreeMap<HostPid, SyscallDispatch>,
    /// Who shares which address space.
    pub(crate) memory: Sharing,
    /// Who shares which fd table.
    pub(crate) files: Sharing,
    /// Who shares which directories and umask.
    pub(crate) fs: Sharing,
    /// Who shares which signal handlers.
    pub(crate) handlers: Sharing,
    /// Who has which adjustments of semaphores.
    pub(crate) undo: Undo,
    /// The fd tables, by their number.
    pub(crate) tables: Vec<FdTable<FileId>>,
    /// Directories and umask, by their number.
    pub(crate) directories: Vec<FsState>,
    /// Locks of files.
    pub(crate) locks: Locks,
    /// Every file.
    pub(crate) probes: BTreeMap<FileId, Probe>,
    /// What was found in queues of sockets.
    pub(crate) in_flight: UnixSurvey,
    /// What told the files apart.
    pub(crate) index: FileIndex,
    /// Address spaces, by the first task that has each.
    pub(crate) spaces: BTreeMap<HostPid, Enumerated>,
    /// Executables, likewise.
    pub(crate) executables: BTreeMap<HostPid, FileId>,
    /// Shared memory.
    pub(crate) objects: SharedObjects,
}

impl Census {
    /// Whether some epoll may watch a signalfd, which every signal wakes.
    pub(crate) fn watches_signals(&self) -> bool {
        let is = |kind| self.probes.values().any(|probe| probe.anonymous_inode() == Some(kind));
        is("signalfd") && is("eventpoll")
    }
}

/// Takes the census.
pub(crate) fn enumerate(frozen: &Frozen, external: &[String]) -> Result<Census, Error> {
    const PHASE: Phase = Phase::Enumerate;
    let living = || frozen.processes.iter().filter(|process| !process.is_zombie());
    let (mut status, mut dispatch) = (BTreeMap::new(), BTreeMap::new());
    for process in living() {
        if process.leader_status.is_some_and(|status| status & 0xff != 0) {
            return Err(Cause::Unsupported {
                what: "a first thread that was killed while others go on",
                reason: "only a seccomp filter of its own can end it in this way",
                hint: "end the process",
            })
            .of(PHASE, process.pid);
        }
        for task in &process.threads {
            let tid = task.tid();
            let read = process.proc.task(tid).and_then(|dir| dir.status()).of(PHASE, tid)?;
            check_task(&read).of(PHASE, tid)?;
            status.insert(tid, read);
            dispatch.insert(tid, SyscallDispatch::collect(task).of(PHASE, tid)?);
        }
    }
    let firsts: BTreeMap<HostPid, HostPid> =
        living().map(|process| (process.pid, process.first())).collect();
    let share = |object| {
        let tasks = living().flat_map(|process| {
            let parent = process.parent.and_then(|parent| firsts.get(&parent)).copied();
            process.threads.iter().map(move |task| {
                let (tid, first) = (task.tid(), process.first());
                let parent = parent.map_or(Hint::None, Hint::Child);
                (tid, if tid == first { parent } else { Hint::Thread(first) })
            })
        });
        Sharing::find(tasks, object).at(PHASE)
    };
    let (files, fs) = (share(Shared::Files)?, share(Shared::Fs)?);
    let (memory, handlers) = (share(Shared::Memory)?, share(Shared::SignalHandlers)?);
    let mut lister = Lister::new(frozen, external)?;
    let mut tables = Vec::new();
    for &owner in files.owners() {
        tables.push(lister.table(frozen, owner)?);
    }
    let in_flight = lister.in_flight()?;
    let mut directories = Vec::new();
    for &owner in fs.owners() {
        let dir = task_dir(frozen, owner).of(PHASE, owner)?;
        let umask = status[&owner].umask.unwrap_or(0o022);
        let cwd = lister.link(&dir, "cwd").of(PHASE, owner)?;
        let root = lister.link(&dir, "root").of(PHASE, owner)?;
        directories.push(FsState { cwd, root, umask });
    }
    let objects = SharedObjects::new().at(PHASE)?;
    let inode = |probe: &Probe| {
        let stat = &probe.sighting.stat;
        (DeviceId::from_stat(stat.st_dev), stat.st_ino)
    };
    let mut mappings = Mappings::new(objects, Uprobes::Refuse)
        .with_open(lister.probes.values().map(inode).collect::<Vec<_>>());
    let (mut spaces, mut executables) = (BTreeMap::new(), BTreeMap::new());
    for process in living().filter(|process| memory.owner(process.first()) == process.first()) {
        let pid = process.first();
        executables.insert(pid, lister.link(&process.proc, "exe").of(PHASE, pid)?);
        let resolve = |mapped: &MappedFile<'_>| lister.mapped(&process.proc, mapped);
        let space = mappings.enumerate(&process.proc, resolve).of(PHASE, pid)?;
        spaces.insert(pid, space);
    }
    Ok(Census {
        status,
        dispatch,
        memory,
        files,
        fs,
        handlers,
        undo: Undo::read(frozen).at(PHASE)?,
        tables,
        directories,
        locks: lister.locks,
        in_flight,
        probes: lister.probes,
        index: lister.index,
        spaces,
        executables,
        objects: mappings.into_objects(),
    })
}

/// State of a task that is refused before anything else is looked at.
fn check_task(status: &Status) -> Result<(), Cause> {
    let refuse = |what, reason, hint| Err(Cause::Unsupported { what, reason, hint });
    if status.ns_pid.len() > 1 {
        return refuse(
            "a pid namespace",
            "namespaces of a tree's own are not saved yet",
            "run dormouse inside of the namespace",
        );
    }
    Ok(())
}

/// `/proc/PID/task/TID`.
fn task_dir(frozen: &Frozen, tid: HostPid) -> Result<ProcDir, Cause> {
    let process = frozen
        .processes
        .iter()
        .find(|process| process.threads.iter().any(|task| task.tid() == tid))
        .expect("every owner is a stopped task");
    Ok(process.proc.task(tid)?)
}

/// Gives files their numbers.
struct Lister {
    index: FileIndex,
    mounts: Mounts,
    locks: Locks,
    probes: BTreeMap<FileId, Probe>,
    links: BTreeMap<(u64, u64, PathBuf), FileId>,
}

impl Lister {
    fn new(frozen: &Frozen, external: &[String]) -> Result<Self, Error> {
        let root = &frozen.processes[0];
        let mounts =
            Mounts::read(&root.proc).of(Phase::Enumerate, root.pid)?.with_external(external);
        let (probes, links) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { index: FileIndex::new(), locks: Locks::default(), mounts, probes, links })
    }

    /// The fd table that task `owner` uses.
    fn table(&mut self, frozen: &Frozen, owner: HostPid) -> Result<FdTable<FileId>, Error> {
        const PHASE: Phase = Phase::Enumerate;
        let dir = Rc::new(task_dir(frozen, owner).of(PHASE, owner)?);
        let is_leader = frozen.processes.iter().any(|process| process.pid == owner);
        let pidfd = if is_leader { PidFd::open(owner) } else { PidFd::open_thread(owner) };
        let pidfd = pidfd.map_err(|error| match error.source {
            Errno::INVAL if !is_leader => Cause::Unsupported {
                what: "a thread with an fd table of its own",
                reason: "this kernel gives no access to it",
                hint: "Linux 6.9 and later do",
            },
            _ => error.into(),
        });
        let pidfd = Rc::new(pidfd.of(PHASE, owner)?);
        let mut entries = Vec::new();
        for fd in dir.fd_numbers().of(PHASE, owner)? {
            let descriptor =
                self.descriptor(&dir, &pidfd, owner, fd).of_fd(PHASE, owner, Some(fd))?;
            entries.push(descriptor);
        }
        Ok(FdTable { entries })
    }

    fn descriptor(
        &mut self,
        dir: &Rc<ProcDir>,
        pidfd: &Rc<PidFd>,
        owner: HostPid,
        fd: FdNum,
    ) -> Result<Descriptor<FileId>, resources::Error> {
        let sighting = Sighting::of_fd(dir, fd)?;
        let close_on_exec = sighting.info.flags.contains(OFlags::CLOEXEC);
        let identity = self.index.identify((owner, fd), &sighting, file::compare)?;
        self.locks.add(owner, fd, (identity.id(), &sighting))?;
        if let Identity::New(id) = identity {
            let probe = Probe::of_fd(id, (dir, pidfd), fd, sighting, &self.mounts)?;
            self.probes.insert(id, probe);
        }
        Ok(Descriptor { fd, file: identity.id(), close_on_exec })
    }

    /// Looks for descriptors in flight through sockets, and through those that
    /// are in flight themselves.
    fn in_flight(&mut self) -> Result<UnixSurvey, Error> {
        const PHASE: Phase = Phase::Enumerate;
        let own = ProcDir::of_self().at(PHASE)?;
        let mut survey = UnixSurvey::new();
        let mut todo: VecDeque<FileId> = self.probes.keys().copied().collect();
        while let Some(id) = todo.pop_front() {
            let Some(probe) = self.probes.get(&id) else { continue };
            let (Holder::Fd { task, fd } | Holder::Flight { task, fd }) = probe.holder else {
                continue;
            };
            let (index, mounts) = (&mut self.index, &self.mounts);
            let mut new = Vec::new();
            let number = |file: OwnedFd| {
                let number = FdNum::from_raw(file.as_raw_fd().cast_unsigned());
                let sighting = Sighting::of_fd(&own, number)?;
                let place = (own.pid(), number);
                let identity = index.identify_passing(place, &sighting, file::compare)?;
                if let Identity::New(id) = identity {
                    new.push(Probe::of_flight(id, &probe.holder, (sighting, file), mounts)?);
                }
                Ok(identity.id())
            };
            survey.look(probe, number).of_fd(PHASE, task, Some(fd))?;
            todo.extend(new.iter().map(|probe| probe.id));
            self.probes.extend(new.into_iter().map(|probe| (probe.id, probe)));
        }
        Ok(survey)
    }

    /// The file behind `cwd`, `root` or `exe`.
    fn link(&mut self, dir: &ProcDir, name: &'static str) -> Result<FileId, resources::Error> {
        self.behind(dir, Entry::Named(name), OFlags::empty())
    }

    fn mapped(&mut self, dir: &ProcDir, mapped: &MappedFile<'_>) -> Result<FileId, Cause> {
        let flags = match mapped.access {
            memory::Access::ReadOnly => OFlags::RDONLY,
            memory::Access::ReadWrite => OFlags::RDWR,
        };
        Ok(self.behind(dir, Entry::MapFile(mapped.range), flags)?)
    }

    fn behind(
        &mut self,
        dir: &ProcDir,
        entry: Entry,
        flags: OFlags,
    ) -> Result<FileId, resources::Error> {
        let (sighting, file) = Sighting::of_link(dir, entry, flags)?;
        let key = (sighting.stat.st_dev, sighting.stat.st_ino, sighting.link.clone());
        let writable = flags.contains(OFlags::RDWR);
        if !writable && let Some(&id) = self.links.get(&key) {
            return Ok(id);
        }
        let id = self.index.fresh();
        let probe = Probe::of_link(id, (dir.pid(), entry), (sighting, file), &self.mounts)?;
        self.probes.insert(id, probe);
        if !writable {
            self.links.insert(key, id);
        }
        Ok(id)
    }
}
