//! Lists what the stopped tree has: who shares what, every open file
//! description with its number, every mapping.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use dormouse_kernel::kcmp::Shared;
use dormouse_kernel::pidfd::PidFd;
use dormouse_kernel::proc::{self, Entry, ProcDir, Status};
use dormouse_kernel::{DeviceId, Errno, FdNum, HostPid};
use dormouse_resources::file::{
    self, Descriptor, FdTable, FileId, FileIndex, Holder, Identity, KernelFile, KernelFiles, Locks,
    Mounts, Probe, Sighting, SocketFamily, UnixSurvey,
};
use dormouse_resources::memory::{
    Enumerated, MappedFile, Mappings, SharedObjects, Uprobes, Walked, is_crowded,
};
use dormouse_resources::task::{FsState, Refusal, SyscallDispatch};
use dormouse_resources::{self as resources, memory};
use rustix::fs::OFlags;

use super::frozen::{Frozen, Process};
use super::keyrings::Possessions;
use super::namespaces::Namespaces;
use super::semaphores::Undo;
use super::sharing::{Hint, Sharing};
use crate::cause::{At, Cause};
use crate::{Error, Phase, crew};

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
    /// Who has which keyrings.
    pub(crate) possessions: Possessions,
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

/// Address spaces whose mappings are read at once: the kernel walks all pages
/// for that, so other processors help.
const SPACES: usize = 32;

/// Page tables, in KiB, that are walked through by two at once: those of memory
/// that is sparse, or of 8 GiB.
const LARGE: u64 = 16 << 10;

/// Takes the census.
pub(crate) fn enumerate(frozen: &Frozen, external: &[String]) -> Result<Census, Error> {
    const PHASE: Phase = Phase::Enumerate;
    let living = || frozen.processes.iter().filter(|process| !process.is_zombie());
    let (mut status, mut dispatch) = (BTreeMap::new(), BTreeMap::new());
    let tasks = living().flat_map(|process| {
        let Process { pid, proc, threads, .. } = process;
        let first = process.first();
        threads.iter().map(move |task| {
            let tid = task.tid();
            (proc, tid, (tid == *pid, tid == first))
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let root = &frozen.processes[0];
    if Namespaces::has_other_mounts(root).of(PHASE, root.pid)? {
        let refused = Refusal::Namespace.error(format!("/proc/{}/ns/mnt", root.pid));
        return Err(refused).of(PHASE, root.pid);
    }
    let home = Namespaces::own().at(PHASE)?;
    let look = |&(proc, tid, (is_leader, is_first)): &(&ProcDir, HostPid, (bool, bool))| {
        // That of a leader was read before.
        let stat = (!is_leader).then(|| proc.stat_of(tid)).transpose()?;
        let stranger = home.first_other(proc, tid, is_first)?;
        Ok::<_, proc::Error>((proc.status_of(tid)?, stat.map(|stat| stat.flags), stranger))
    };
    let mut read = crew::each(&tasks, look).into_iter();
    for process in living() {
        if process.leader_status.is_some_and(|status| status & 0xff != 0) {
            return Err(Cause::Unsupported(Refusal::KilledLeader)).of(PHASE, process.pid);
        }
        for task in &process.threads {
            let tid = task.tid();
            let (read, flags, stranger) =
                read.next().expect("one was read for each").of(PHASE, tid)?;
            let flags = flags.unwrap_or(process.stat.flags);
            check_task(&read, flags).of(PHASE, tid)?;
            if let Some(kind) = stranger {
                let refused = Refusal::Namespace.error(format!("/proc/{tid}/{}", kind.name()));
                return Err(refused).of(PHASE, tid);
            }
            status.insert(tid, read);
            dispatch.insert(tid, SyscallDispatch::collect(task).of(PHASE, tid)?);
        }
    }
    let firsts: BTreeMap<HostPid, HostPid> =
        living().map(|process| (process.pid, process.first())).collect();
    let tasks = living().flat_map(|process| {
        let parent = process.parent.and_then(|parent| firsts.get(&parent)).copied();
        process.threads.iter().map(move |task| {
            let (tid, first) = (task.tid(), process.first());
            let parent = parent.map_or(Hint::None, Hint::Child);
            (tid, if tid == first { parent } else { Hint::Thread(first) })
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let share = |object: &Shared| Sharing::find(tasks.iter().copied(), *object);
    // In this order one part takes as long as the other.
    let objects = [Shared::Files, Shared::Memory, Shared::Fs, Shared::SignalHandlers];
    let shares = crew::each_if(tasks.len(), &objects, share);
    let shares = shares.into_iter().collect::<Result<Vec<_>, _>>().at(PHASE)?;
    let [files, memory, fs, handlers] =
        <[Sharing; 4]>::try_from(shares).expect("one for each of the objects");
    let homes = Homes::new(frozen);
    let (mut lister, tables, in_flight) = either_way(|may_look_inside| {
        let mut lister = Lister::new(external, may_look_inside)?;
        let tables = lister.tables(&homes, &files)?;
        let in_flight = lister.in_flight()?;
        Ok((lister, tables, in_flight))
    })?;
    let mut directories = Vec::new();
    for &owner in fs.owners() {
        let dir = homes.task_dir(owner).of(PHASE, owner)?;
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
    let owners = living().filter(|process| memory.owner(process.first()) == process.first());
    let owners: Vec<_> = owners.map(|process| (process.first(), &process.proc)).collect();
    for some in owners.chunks(SPACES) {
        let walked = crew::each_long(some, |(pid, proc)| {
            let memory = status[pid].memory;
            let is_large = memory.is_some_and(|memory| memory.page_tables >= LARGE);
            // Others are read beside it otherwise.
            let alone = owners.len() == 1;
            if alone && is_large { Walked::read_by_two(proc) } else { Walked::read(proc) }
        });
        for (&(pid, proc), walked) in some.iter().zip(walked) {
            executables.insert(pid, lister.link(proc, "exe").of(PHASE, pid)?);
            let walked = walked.of(PHASE, pid)?;
            let resolve = |mapped: &MappedFile<'_>| lister.mapped(proc, mapped);
            let space = mappings.enumerate(proc, walked, resolve).of(PHASE, pid)?;
            if is_crowded(&space.vmas) {
                return Err(Cause::Unsupported(Refusal::ManyMappings)).of(PHASE, pid);
            }
            spaces.insert(pid, space);
        }
    }
    Ok(Census {
        status,
        dispatch,
        memory,
        files,
        fs,
        handlers,
        undo: Undo::read(frozen).at(PHASE)?,
        possessions: Possessions::read(frozen)?,
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

/// Lists files with the help of the kernel's memory, or without it if it tells
/// of one and then not of another: all are told apart in the same way.
fn either_way<T>(mut list: impl FnMut(bool) -> Result<T, Error>) -> Result<T, Error> {
    use resources::Error::KernelFiles;
    list(true).or_else(|error| match error.source.downcast_ref() {
        Some(Cause::Resource(KernelFiles(_))) => list(false),
        _ => Err(error),
    })
}

/// State of a task that is refused before anything else is looked at.
fn check_task(status: &Status, flags: u32) -> Result<(), Cause> {
    /// `PR_IO_FLUSHER` in `kernel/sys.c`: `PF_MEMALLOC_NOIO` and `PF_LOCAL_THROTTLE`.
    const IO_FLUSHER: u32 = 0x0008_0000 | 0x0010_0000;
    if status.ns_pid.len() > 1 {
        return Err(Cause::Unsupported(Refusal::PidNamespace));
    }
    if flags & IO_FLUSHER == IO_FLUSHER {
        return Err(Cause::Unsupported(Refusal::IoFlusher));
    }
    Ok(())
}

/// The process of every stopped task.
struct Homes<'a>(BTreeMap<HostPid, &'a Process>);

impl<'a> Homes<'a> {
    fn new(frozen: &'a Frozen) -> Self {
        let tasks =
            |process: &'a Process| process.threads.iter().map(move |task| (task.tid(), process));
        Self(frozen.processes.iter().flat_map(tasks).collect())
    }

    /// `/proc/PID/task/TID`.
    fn task_dir(&self, tid: HostPid) -> Result<ProcDir, Cause> {
        Ok(self.0[&tid].proc.task(tid)?)
    }

    fn is_leader(&self, tid: HostPid) -> bool {
        self.0[&tid].pid == tid
    }
}

/// An fd table.
struct Table {
    /// A task that uses it.
    owner: HostPid,
    /// How many of the tree do.
    users: usize,
    dir: Rc<ProcDir>,
    pidfd: Rc<PidFd>,
    /// Its numbers, lowest first.
    numbers: Vec<FdNum>,
}

impl Table {
    /// The one that task `owner` uses, and as many others as there are `users`.
    fn open(homes: &Homes<'_>, (owner, users): (HostPid, usize)) -> Result<Self, Error> {
        const PHASE: Phase = Phase::Enumerate;
        let dir = Rc::new(homes.task_dir(owner).of(PHASE, owner)?);
        let is_leader = homes.is_leader(owner);
        let pidfd = if is_leader { PidFd::open(owner) } else { PidFd::open_thread(owner) };
        let pidfd = pidfd.map_err(|error| match error.source {
            Errno::INVAL if !is_leader => Cause::Unsupported(Refusal::ThreadTable),
            _ => error.into(),
        });
        let pidfd = Rc::new(pidfd.of(PHASE, owner)?);
        let numbers = dir.fd_numbers().of(PHASE, owner)?;
        Ok(Self { owner, users, dir, pidfd, numbers })
    }
}

/// Gives files their numbers.
struct Lister {
    index: FileIndex,
    /// Whether the kernel's memory may be looked into.
    may_look_inside: bool,
    /// What reads them from there, if there are many.
    inner: Option<KernelFiles>,
    mounts: Mounts,
    locks: Locks,
    probes: BTreeMap<FileId, Probe>,
    links: BTreeMap<(u64, u64, PathBuf), FileId>,
    /// Rings of io_uring that are open, by their inodes, once that is asked for.
    rings: Option<BTreeMap<u64, FileId>>,
    /// The same of packet sockets.
    packet_sockets: Option<BTreeMap<u64, FileId>>,
}

/// The files of a kind that are open, by the inodes that their mappings name.
fn by_inode(
    probes: &BTreeMap<FileId, Probe>,
    is_one: impl Fn(&Probe) -> bool,
) -> BTreeMap<u64, FileId> {
    let all = probes.values().filter(|probe| is_one(probe));
    all.map(|probe| (probe.stat.st_ino, probe.id)).collect()
}

impl Lister {
    fn new(external: &[String], may_look_inside: bool) -> Result<Self, Error> {
        let mounts = Mounts::own().at(Phase::Enumerate)?.with_external(external);
        let (probes, links) = (BTreeMap::new(), BTreeMap::new());
        let (index, locks) = (FileIndex::new(), Locks::default());
        let inner = None;
        let (rings, packet_sockets) = (None, None);
        Ok(Self {
            index,
            may_look_inside,
            inner,
            mounts,
            locks,
            probes,
            links,
            rings,
            packet_sockets,
        })
    }

    /// The fd tables that these tasks use.
    fn tables(
        &mut self,
        homes: &Homes<'_>,
        sharing: &Sharing,
    ) -> Result<Vec<FdTable<FileId>>, Error> {
        /// Tables that are held open at once.
        const SOME: usize = 64;
        let mut listed = Vec::new();
        let users = sharing.users();
        let all: Vec<_> = sharing.owners().iter().copied().zip(users).collect();
        for some in all.chunks(SOME) {
            let open = some.iter().map(|&table| Table::open(homes, table));
            let tables = open.collect::<Result<Vec<_>, _>>()?;
            if listed.is_empty() {
                let all: usize = tables.iter().map(|table| table.numbers.len()).sum();
                let pays = self.may_look_inside && KernelFiles::pays_for(all);
                self.inner = pays.then(KernelFiles::open).flatten();
            }
            for table in &tables {
                listed.push(self.table(table)?);
            }
        }
        Ok(listed)
    }

    fn table(&mut self, table: &Table) -> Result<FdTable<FileId>, Error> {
        /// Files that are read from the kernel's memory at once.
        const SOME: usize = 4096;
        let known = self.inner.as_mut().and_then(|inner| {
            // Somebody outside of the tree may have the table, too, and change it.
            inner.table(&table.pidfd, table.users).ok().flatten()
        });
        let known = known.filter(|known| known.numbers().eq(table.numbers.iter().copied()));
        let mut entries = Vec::new();
        for numbers in table.numbers.chunks(SOME) {
            let files = self.inner.as_mut().zip(known.as_ref());
            let files = files.and_then(|(inner, known)| inner.files(known, numbers).ok());
            for (place, &fd) in numbers.iter().enumerate() {
                let found = self.descriptor(table, fd, files.as_ref().map(|files| &files[place]));
                entries.push(found.of_fd(Phase::Enumerate, table.owner, Some(fd))?);
            }
        }
        Ok(FdTable { entries })
    }

    fn descriptor(
        &mut self,
        table: &Table,
        fd: FdNum,
        inner: Option<&KernelFile>,
    ) -> Result<Descriptor<FileId>, resources::Error> {
        let Table { owner, dir, pidfd, .. } = table;
        let sighting = match (&mut self.inner, inner) {
            (Some(files), Some(file)) => file.sighting(files, dir, fd)?,
            _ => Sighting::of_fd(dir, fd)?,
        };
        let close_on_exec = sighting.info.flags.contains(OFlags::CLOEXEC);
        let identity = match (&mut self.inner, inner) {
            (_, Some(file)) => self.index.identify_known(file.id),
            (Some(files), None) => {
                let file = pidfd.get_fd(fd)?;
                self.index.identify_known(files.own(file.as_fd())?)
            }
            (None, None) => self.index.identify((*owner, fd), &sighting, file::compare)?,
        };
        self.locks.add(*owner, fd, (identity.id(), &sighting))?;
        if let Identity::New(id) = identity {
            let known = self.inner.as_ref().zip(inner);
            let inner = known.map(|(files, file)| (*file, files.file_system(file)));
            let probe = Probe::of_fd(id, (dir, pidfd), fd, (sighting, inner), &self.mounts)?;
            if let (Some(files), Some((file, None))) = (&mut self.inner, inner) {
                files.note(&file, probe.file_system);
            }
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
        if let Some(inner) = &mut self.inner {
            survey.look_inside(inner, self.probes.values()).at(PHASE)?;
        }
        let mut todo: VecDeque<FileId> = self.probes.keys().copied().collect();
        while let Some(id) = todo.pop_front() {
            let Some(probe) = self.probes.get(&id) else { continue };
            let (Holder::Fd { task, fd } | Holder::Flight { task, fd }) = probe.holder else {
                continue;
            };
            let (index, mounts, inner) = (&mut self.index, &self.mounts, &mut self.inner);
            let mut new = Vec::new();
            let number = |file: OwnedFd| {
                let number = FdNum::from_raw(file.as_raw_fd().cast_unsigned());
                let sighting = Sighting::of_fd(&own, number)?;
                let place = (own.pid(), number);
                let identity = match inner {
                    Some(inner) => index.identify_known(inner.own(file.as_fd())?),
                    None => index.identify_passing(place, &sighting, file::compare)?,
                };
                if let Identity::New(id) = identity {
                    new.push(Probe::of_flight(id, &probe.holder, (sighting, file), mounts)?);
                }
                Ok(identity.id())
            };
            survey.look(probe, &self.probes, number).of_fd(PHASE, task, Some(fd))?;
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
        if mapped.is_ring() {
            return self.ring(mapped.inode);
        }
        if mapped.is_socket() {
            return self.packet_socket(mapped);
        }
        let flags = match mapped.access {
            memory::Access::ReadOnly | memory::Access::Sealed => OFlags::RDONLY,
            memory::Access::ReadWrite => OFlags::RDWR,
        };
        Ok(self.behind(dir, Entry::MapFile(mapped.range), flags)?)
    }

    /// A ring that is mapped, and open as well.
    fn ring(&mut self, inode: u64) -> Result<FileId, Cause> {
        let is_one = |it: &Probe| it.anonymous_inode() == Some("io_uring");
        let rings = self.rings.get_or_insert_with(|| by_inode(&self.probes, is_one));
        rings.get(&inode).copied().ok_or(Cause::Unsupported(Refusal::ClosedRing))
    }

    /// A packet socket whose rings are mapped, and that is open as well.
    fn packet_socket(&mut self, mapped: &MappedFile<'_>) -> Result<FileId, Cause> {
        let is_one = |it: &Probe| it.socket_family() == Some(SocketFamily::PACKET);
        let all = self.packet_sockets.get_or_insert_with(|| by_inode(&self.probes, is_one));
        let found = all.get(&mapped.inode).copied();
        let found = found.ok_or(Cause::Unsupported(Refusal::MappedSocket))?;
        match file::packet_rings_len(&self.probes[&found])? == mapped.range.len() {
            true => Ok(found),
            false => Err(Cause::Unsupported(Refusal::MappedSocket)),
        }
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

#[cfg(test)]
mod tests {
    use std::io;

    use dormouse_resources as resources;
    use dormouse_resources::task::Refusal;
    use epoll_interest::kernel_memory::ReadError;

    use super::either_way;
    use crate::cause::{At, Cause};
    use crate::{Error, Phase};

    fn failed(error: resources::Error) -> Error {
        Err::<(), _>(Cause::from(error)).at(Phase::Enumerate).unwrap_err()
    }

    #[test]
    fn files_are_listed_without_the_memory_of_the_kernel_when_it_fails() {
        for error in [ReadError::Fault, ReadError::Run(io::Error::from_raw_os_error(12))] {
            let mut error = Some(failed(resources::Error::KernelFiles(error)));
            let listed = either_way(|inside| match inside {
                true => Err(error.take().unwrap()),
                false => Ok("by /proc"),
            });
            assert_eq!(listed.unwrap(), "by /proc");
        }
    }

    #[test]
    fn other_errors_are_told_at_once() {
        let unsupported = || Refusal::ClosedRing.error("42");
        let listed = either_way(|inside| -> Result<(), _> {
            assert!(inside, "asked again");
            Err(failed(unsupported()))
        });
        assert_eq!(listed.unwrap_err().kind, crate::ErrorKind::Unsupported);
    }
}
