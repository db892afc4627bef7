//! Collects descriptors of this process, writes images, and creates them from
//! those.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use dormouse_image::proto::inventory::InventoryEntry;
use dormouse_image::{ImageDir, NewDump};
use dormouse_kernel::pidfd::PidFd;
use dormouse_kernel::proc::{Entry, ProcDir};
use dormouse_kernel::{FdNum, HostPid, NsPid};
use dormouse_resources::Result;
use dormouse_resources::file::{
    self, CollectCx, CollectOptions, CreateCx, Descriptor, FdTable, FdTableId, File, FileId,
    FileIndex, FillRank, Identity, ImageSink, ImageSource, LoadShared, Mounts, Probe, RingSurvey,
    SaveShared, Sighting, Uncreated, Use, UserfaultSurvey,
};
use rustix::fs::{OFlags, SeekFrom, fcntl_getfl, fstat, seek};
use tempfile::TempDir;

/// The images of some descriptors of this process.
pub(crate) struct Images {
    pub(crate) dir: TempDir,
}

/// The descriptor's number.
pub(crate) fn number(file: impl AsFd) -> FdNum {
    FdNum::from_raw(file.as_fd().as_raw_fd().cast_unsigned())
}

/// What was created, by the number of the descriptor it was created from, and
/// files that were opened for something else.
pub(crate) struct Restored {
    pub(crate) files: BTreeMap<FdNum, OwnedFd>,
    pub(crate) inodes: Vec<OwnedFd>,
}

/// Shared memory of whatever content, kept in this process.
#[derive(Default)]
pub(crate) struct Contents(RefCell<BTreeMap<u32, Vec<u8>>>);

impl SaveShared for Contents {
    fn save(&self, file: OwnedFd) -> Result<u32> {
        let stat = fstat(&file).unwrap();
        let mut bytes = vec![0; usize::try_from(stat.st_size).unwrap()];
        let got = rustix::io::pread(file, &mut bytes[..], 0).unwrap();
        assert_eq!(got, bytes.len());
        let shmid = stat.st_ino as u32;
        self.0.borrow_mut().insert(shmid, bytes);
        Ok(shmid)
    }
}

impl LoadShared for Contents {
    fn load(&self, shmid: u32, file: BorrowedFd<'_>, size: u64) -> Result<()> {
        let contents = self.0.borrow();
        assert_eq!(contents[&shmid].len() as u64, size);
        let written = rustix::io::pwrite(file, &contents[&shmid], 0).unwrap();
        assert_eq!(written as u64, size);
        Ok(())
    }
}

pub(crate) fn me() -> HostPid {
    ProcDir::of_self().unwrap().pid()
}

/// Everything of a dump that is about files.
pub(crate) struct Dump {
    pub(crate) options: CollectOptions,
    /// What will be handed over.
    pub(crate) external: Vec<String>,
    pub(crate) shared: Contents,
    proc: Rc<ProcDir>,
    pidfd: Rc<PidFd>,
    mounts: Mounts,
    index: FileIndex,
    probes: BTreeMap<FileId, Probe>,
    table: Vec<Descriptor<FileId>>,
    inodes: Vec<FileId>,
}

impl Dump {
    pub(crate) fn new() -> Self {
        let proc = ProcDir::of_self().unwrap();
        Self {
            options: CollectOptions::default(),
            external: Vec::new(),
            shared: Contents::default(),
            pidfd: Rc::new(PidFd::open(proc.pid()).unwrap()),
            mounts: Mounts::own().unwrap(),
            proc: Rc::new(proc),
            index: FileIndex::new(),
            probes: BTreeMap::new(),
            table: Vec::new(),
            inodes: Vec::new(),
        }
    }

    /// Adds a descriptor of this process.
    pub(crate) fn descriptor(&mut self, file: impl AsFd) -> FileId {
        let fd = number(file);
        let sighting = Sighting::of_fd(&self.proc, fd).unwrap();
        let close_on_exec = sighting.info.close_on_exec();
        let identity = self.index.identify((me(), fd), &sighting, file::compare).unwrap();
        if let Identity::New(id) = identity {
            let holder = (&self.proc, &self.pidfd);
            let probe = Probe::of_fd(id, holder, fd, (sighting, None), &self.mounts).unwrap();
            self.probes.insert(id, probe);
        }
        self.table.push(Descriptor { fd, file: identity.id(), close_on_exec });
        identity.id()
    }

    /// Adds a file behind a link of `/proc/self`.
    pub(crate) fn link(&mut self, entry: Entry, flags: OFlags) -> FileId {
        self.link_of(me(), entry, flags)
    }

    /// The same of another process.
    pub(crate) fn link_of(&mut self, pid: HostPid, entry: Entry, flags: OFlags) -> FileId {
        let id = self.index.fresh();
        let found = Sighting::of_link(&ProcDir::open(pid).unwrap(), entry, flags).unwrap();
        let probe = Probe::of_link(id, (pid, entry), found, &self.mounts).unwrap();
        self.probes.insert(id, probe);
        self.inodes.push(id);
        id
    }

    /// What is known of a file that was added.
    pub(crate) fn probe(&self, id: FileId) -> &Probe {
        &self.probes[&id]
    }

    /// Writes images of all that was added.
    pub(crate) fn write(self) -> Result<(Images, Contents)> {
        let Self { options, external, shared, index, probes, mut table, inodes: _, .. } = self;
        let myself = |pid: HostPid| NsPid::from_raw(pid.as_raw()).filter(|_| pid == me());
        table.sort_unstable_by_key(|descriptor| descriptor.fd);
        let tables = [FdTable { entries: table }];
        let mut rings = RingSurvey::new(BTreeSet::from([me()]));
        for probe in probes.values().filter(|probe| RingSurvey::concerns(probe)) {
            rings.look(probe)?;
        }
        let cx = CollectCx::new(options, (&probes, &tables), index, &myself, &shared)
            .with_external(external);
        cx.note_rings(rings);
        let firsts = BTreeMap::from([(me(), me())]);
        cx.note_faults(UserfaultSurvey::new(firsts, BTreeMap::new()));
        let mut files = BTreeMap::new();
        for (&id, probe) in &probes {
            files.insert(id, File::collect(&cx, probe)?);
        }
        // Images that are written a thousand times do not belong on a disk.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let dump = NewDump::begin(dir.path()).unwrap();
        let mut sink = ImageSink::new(&dump);
        for (&id, file) in &files {
            file.encode(id, &mut sink)?;
        }
        tables[0].encode(FdTableId::from_raw(1), &files, &dump)?;
        let undo = sink.finish()?;
        let inventory = InventoryEntry { img_version: 2, ..InventoryEntry::default() };
        dump.commit(&inventory).unwrap();
        undo.keep();
        drop(cx);
        Ok((Images { dir }, shared))
    }
}

impl Images {
    /// Decodes everything, and says nothing of what it gives.
    pub(crate) fn decode(&self) -> Result<()> {
        let (images, _) = ImageDir::open(self.dir.path())?;
        let mut source = ImageSource::open(&images)?;
        FdTable::decode(FdTableId::from_raw(1), &mut source)?;
        source.finish().map(drop)
    }

    /// Decodes everything and creates it. `inodes` are to be opened as well.
    pub(crate) fn restore(
        &self,
        shared: &Contents,
        inodes: &[(FileId, OFlags)],
    ) -> Result<Restored> {
        self.restore_with(shared, inodes, Vec::new())
    }

    /// The same, with files that are handed over.
    pub(crate) fn restore_with(
        &self,
        shared: &Contents,
        inodes: &[(FileId, OFlags)],
        given: Vec<(String, OwnedFd)>,
    ) -> Result<Restored> {
        let (images, _) = ImageDir::open(self.dir.path())?;
        let mut source = ImageSource::open(&images)?;
        let table = FdTable::decode(FdTableId::from_raw(1), &mut source)?;
        let image = dormouse_image::ImageName::Inventory;
        let open = |&(id, flags): &(FileId, OFlags)| {
            (source.file_ref(id.as_raw(), Use::Inode, (image, "test", 0)), flags)
        };
        let inodes: Vec<_> = inodes.iter().map(open).collect();
        let files = source.finish()?;
        assert_eq!(images.unread().unwrap(), Vec::<std::ffi::OsString>::new());
        let mut cx = CreateCx::new(&files, &images, shared).with_inherited(given);
        let why = |error: Uncreated| error.source;
        let mut created = cx.create_all().map_err(why)?;
        cx.create_living(&mut created).map_err(why)?;
        cx.create_installed(&mut created).map_err(why)?;
        let opened = inodes.into_iter().map(|(file, flags)| cx.open_for_mapping(file, flags));
        let inodes = opened.collect::<Result<Vec<_>>>()?;
        cx.finish()?;
        for rank in FillRank::ALL {
            created.fill(rank, &|pid| HostPid::from_raw(pid.as_raw()))?;
        }
        files.remove_links()?;
        let files = table
            .entries
            .iter()
            .map(|entry| (entry.fd, created.get(entry.file).try_clone_to_owned().unwrap()))
            .collect();
        Ok(Restored { files, inodes })
    }
}

impl Restored {
    /// The file that was created from this one.
    pub(crate) fn of(&self, old: impl AsFd) -> &OwnedFd {
        &self.files[&number(old)]
    }
}

/// Takes descriptors through images.
pub(crate) fn round_trip(files: &[BorrowedFd<'_>]) -> Result<Restored> {
    let mut dump = Dump::new();
    for file in files {
        dump.descriptor(file);
    }
    let (images, shared) = dump.write()?;
    images.restore(&shared, &[])
}

/// Everything `/proc` tells of one is true of the other.
pub(crate) fn assert_same(old: impl AsFd, new: impl AsFd) {
    let (old, new) = (old.as_fd(), new.as_fd());
    let proc = ProcDir::of_self().unwrap();
    let sighting = |file| Sighting::of_fd(&proc, number(file)).unwrap();
    let (one, other) = (sighting(old), sighting(new));
    let flags = |sighting: &Sighting| sighting.info.flags - OFlags::CLOEXEC;
    assert_eq!(flags(&one), flags(&other), "{:?}", one.link);
    assert_eq!(one.info.pos, other.info.pos, "{:?}", one.link);
    if !one.info.flags.contains(OFlags::PATH) {
        assert_eq!(fcntl_getfl(old).unwrap(), fcntl_getfl(new).unwrap());
        assert_eq!(seek(old, SeekFrom::Current(0)), seek(new, SeekFrom::Current(0)));
        use dormouse_kernel::file_owner::{owner, owner_uids, signal};
        assert_eq!(owner(old).unwrap(), owner(new).unwrap());
        assert_eq!(owner_uids(old).unwrap(), owner_uids(new).unwrap());
        assert_eq!(signal(old).unwrap(), signal(new).unwrap());
    }
    let (one, other) = (fstat(old).unwrap(), fstat(new).unwrap());
    assert_eq!((one.st_mode, one.st_size), (other.st_mode, other.st_size));
}

/// Both stand for one open file description.
pub(crate) fn is_same_description(one: impl AsFd, other: impl AsFd) -> bool {
    let place = |file| (me(), number(file));
    file::compare(place(one.as_fd()), place(other.as_fd())).unwrap().is_eq()
}
