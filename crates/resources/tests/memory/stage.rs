//! Puppets that have memory put in and taken out.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use dormouse_image::ImageName;
use dormouse_image::proto::inventory::InventoryEntry;
use dormouse_image::store::{ImageDir, NewDump};
use dormouse_kernel::clone::{CloneFlags, spawn_bare};
use dormouse_kernel::proc::{ProcDir, Smap, Vma as MapsLine};
use dormouse_kernel::ptrace::{Halt, Options, Running};
use dormouse_kernel::remote_memory::Mem;
use dormouse_kernel::signal::Signal;
use dormouse_kernel::{Addr, AddrRange, Errno, FdNum, HostPid, NsPid, PAGE_SIZE};
use dormouse_puppet::{Arg, Bare, Batch};
use dormouse_resources::file::FileId;
use dormouse_resources::memory::{
    Dumpable, DumpedPages, DumpedProcess, Enumerated, Error, KernelVdso, MapFiles, MapSource,
    Mappings, Mm, Outlook, PageDump, PagesFiles, RestorePlan, RestoredProcess, SavedMemory,
    SavedObject, SharedMemory, SharedObjects, TransparentHugePages, Uprobes, Walked,
};

pub(crate) const READ: i32 = libc::PROT_READ;
pub(crate) const WRITE: i32 = libc::PROT_WRITE;
pub(crate) const EXEC: i32 = libc::PROT_EXEC;
pub(crate) const ANON: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;

pub(crate) fn range(start: u64, pages: u64) -> AddrRange {
    AddrRange::with_len(Addr::from_raw(start), pages * PAGE_SIZE).unwrap()
}

pub(crate) fn room() -> AddrRange {
    range(0x6000_0000_0000, 256)
}

/// A process without anything but its room.
pub(crate) fn bare() -> Bare {
    let pid = spawn_bare(&[], CloneFlags::empty()).unwrap();
    let task = match Running::seize(pid, Options::EXITKILL | Options::TRACESYSGOOD)
        .unwrap()
        .halt()
        .unwrap()
    {
        Halt::Halted { task, .. } => task,
        Halt::Exited { .. } | Halt::Ended { .. } => panic!("it ended"),
    };
    let own = NsPid::from_raw(pid.as_raw()).unwrap();
    let mut bare = Bare::take_over(task, own, room()).unwrap();
    bare.strip().unwrap();
    bare
}

/// A child of `parent`, with a copy of its memory.
pub(crate) fn fork(parent: &mut Bare) -> Bare {
    // Far from those the kernel gives next, and below `pid_max`, whatever it is.
    const FAR: i32 = 16_000;
    let own = parent.tid().as_raw();
    let first = if own < FAR { own + 1000 } else { 1000 };
    for free in first.. {
        let (pid, ns) = (HostPid::from_raw(free).unwrap(), NsPid::from_raw(free).unwrap());
        let mut batch = Batch::new();
        batch.clone_task(CloneFlags::empty(), Some(Signal::CHLD), ns);
        match parent.run(batch) {
            Ok(_) => return Bare::adopt(parent, pid, ns, ns).unwrap(),
            // Other tests look for numbers as well.
            Err(dormouse_puppet::Error::Call { source: Errno::EXIST, .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("no number is free")
}

/// Makes calls that must not fail.
pub(crate) fn call<const N: usize>(puppet: &mut Bare, calls: &[(i64, [u64; N])]) -> Vec<u64> {
    let mut batch = Batch::new();
    let slots: Vec<_> =
        calls.iter().map(|(number, args)| batch.call(*number, args.map(Arg::from))).collect();
    let replies = puppet.run(batch).unwrap();
    slots.iter().map(|slot| replies.value(slot)).collect()
}

pub(crate) fn map(puppet: &mut Bare, at: AddrRange, prot: i32, flags: i32, fd: i32, offset: u64) {
    let fd = i64::from(fd).cast_unsigned();
    let args = [at.start().as_raw(), at.len(), prot as u64, flags as u64, fd, offset];
    assert_eq!(call(puppet, &[(libc::SYS_mmap, args)]), [at.start().as_raw()]);
}

pub(crate) fn protect(puppet: &mut Bare, at: AddrRange, prot: i32) {
    call(puppet, &[(libc::SYS_mprotect, [at.start().as_raw(), at.len(), prot as u64])]);
}

pub(crate) fn advise(puppet: &mut Bare, at: AddrRange, advice: i32) {
    call(puppet, &[(libc::SYS_madvise, [at.start().as_raw(), at.len(), advice as u64])]);
}

/// Writes pages that differ from each other and from those of another `seed`.
pub(crate) fn write(puppet: &Bare, at: AddrRange, seed: u64) {
    let mem = Mem::open(&proc(puppet)).unwrap();
    let words = (0..at.len() / 8).map(|n| (n + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let bytes: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
    mem.write_exact(at.start(), &bytes).unwrap();
}

pub(crate) fn proc(puppet: &Bare) -> ProcDir {
    ProcDir::open(puppet.tid()).unwrap()
}

/// A file of many pages with known contents.
pub(crate) fn file(dir: &Path, name: &str) -> File {
    let contents: Vec<u8> = (0..16u8).flat_map(|n| [n + 1; PAGE_SIZE as usize]).collect();
    std::fs::write(dir.join(name), contents).unwrap();
    File::options().read(true).write(true).open(dir.join(name)).unwrap()
}

/// What is open in this process, and so in all puppets made after: by number, as a file or an
/// object.
#[derive(Default)]
pub(crate) struct Open {
    pub(crate) files: BTreeMap<FileId, OwnedFd>,
    pub(crate) objects: BTreeMap<MapSource, OwnedFd>,
}

impl Open {
    pub(crate) fn find(&self, source: MapSource) -> i32 {
        match source {
            MapSource::File(file, _) => self.files[&file].as_raw_fd(),
            MapSource::Object(_) => self.objects[&source].as_raw_fd(),
        }
    }
}

/// Puppets have what this process had open when they were made.
impl MapFiles for &Open {
    type Error = Error;

    fn open_exe(&mut self, batch: &mut Batch) -> Result<FdNum, Error> {
        const NUMBER: u32 = 900;
        let exe = self.files[&EXE].as_raw_fd();
        batch.call(libc::SYS_dup3, [exe.into(), NUMBER.into(), libc::O_CLOEXEC.into()]);
        Ok(FdNum::from_raw(NUMBER))
    }

    fn open(&mut self, batch: &mut Batch, source: MapSource) -> Result<Arg, Error> {
        Ok(Arg::from(&batch.call(libc::SYS_dup, [self.find(source).into()])))
    }
}

/// The program all of them "run".
pub(crate) const EXE: FileId = FileId::from_raw(1);

pub(crate) fn open_exe(open: &mut Open) {
    open.files.insert(EXE, File::open("/bin/true").unwrap().into());
}

/// Stores the memory of `puppets`. The files they have mapped are those in `open`, in order.
pub(crate) fn dump(puppets: &mut [&mut Bare], open: &Open, dir: &Path) -> (ImageDir, DumpedPages) {
    let procs: Vec<_> = puppets.iter().map(|puppet| proc(puppet)).collect();
    let mut mappings = Mappings::new(SharedObjects::new().unwrap(), Uprobes::Refuse);
    let dump = NewDump::begin(dir).unwrap();
    let mut processes = Vec::new();
    for (number, (puppet, proc)) in (1..).zip(puppets.iter_mut().zip(&procs)) {
        let enumerated = mappings.enumerate(proc, Walked::read(proc).unwrap(), |file| {
            let same = |fd: &&OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino == file.inode;
            let found = open.files.iter().find(|(_, fd)| same(fd));
            Ok::<_, Error>(*found.expect("a file the test has mapped").0)
        });
        let Enumerated { mut vmas, guards, pages, registered: _ } = enumerated.unwrap();
        vmas.retain(|vma| vma.range.intersection(room()).is_none());
        let pages = pages.outside(room());
        let brk = call(puppet, &[(libc::SYS_brk, [0u64])])[0];
        let lowest = vmas[0].range.start();
        let mm = Mm {
            layout: proc.stat().unwrap().layout,
            brk: Addr::from_raw(brk),
            auxv: vec![6, PAGE_SIZE, 0, 0],
            exe: EXE,
            dumpable: Dumpable::Yes,
            huge_pages: TransparentHugePages::Anywhere,
            outlook: Outlook::default(),
            vmas,
            guards,
        };
        dump.put_one(ImageName::Mm(number), &mm.encode()).unwrap();
        processes.push(DumpedProcess { image_pid: number, proc, pages, lowest });
    }
    let objects = mappings.into_objects();
    let plan = PageDump::plan(processes, &objects).unwrap();
    let counts = plan.write(&dump, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    dump.commit(&InventoryEntry { img_version: 2, ..InventoryEntry::default() }).unwrap();
    (ImageDir::open(dir).unwrap().0, counts)
}

/// What is stored of processes 1 and on, and the files with their pages.
pub(crate) fn decode(dir: &ImageDir, count: u32) -> (Vec<SavedMemory>, PagesFiles) {
    let mut files = PagesFiles::new();
    let memories = (1..=count).map(|n| SavedMemory::decode(dir, n, &mut files).unwrap()).collect();
    (memories, files)
}

pub(crate) fn plan<'a>(
    memories: &'a [SavedMemory],
    parents: &[Option<usize>],
    files: PagesFiles,
) -> RestorePlan<'a> {
    let process = |(memory, &parent)| RestoredProcess { memory, parent };
    let processes: Vec<_> = memories.iter().zip(parents).map(process).collect();
    let kernel = KernelVdso::probe().unwrap();
    RestorePlan::new(&processes, files.into(), kernel.as_ref(), room()).unwrap()
}

/// Makes the shared memory that the processes have mapped, as it was.
pub(crate) fn make_objects(dir: &ImageDir, memories: &[SavedMemory], open: &mut Open) {
    for (id, object) in SharedMemory::of(memories) {
        let mut files = PagesFiles::new();
        let saved = SavedObject::decode(dir, id.as_raw().into(), &mut files).unwrap().1;
        let fd = object.create(&mut bare()).unwrap();
        saved.fill(fd.as_fd(), object.size, &files, &mut |_| ()).unwrap();
        open.objects.insert(MapSource::Object(id), fd);
    }
}

/// Restores a single process.
pub(crate) fn restore(dir: &ImageDir, open: &mut Open) -> Bare {
    let (memories, files) = decode(dir, 1);
    make_objects(dir, &memories, open);
    let plan = plan(&memories, &[None], files);
    restore_family(&plan, &[None], open).pop().unwrap()
}

/// All but the room, and without what belongs to the moment.
pub(crate) fn smaps(puppet: &Bare) -> Vec<(MapsLine, String)> {
    let smaps = proc(puppet).smaps().unwrap();
    let own = smaps.into_iter().filter(|smap| smap.vma.range.intersection(room()).is_none());
    own.map(|Smap { mut vma, flags, .. }| {
        // Of shared memory, which is made anew.
        if vma.device.major == 0 {
            vma.inode = 0;
        }
        (vma, format!("{flags:?}"))
    })
    .collect()
}

pub(crate) fn contents(puppet: &Bare, at: AddrRange) -> Vec<u8> {
    let mut bytes = vec![0; at.len() as usize];
    Mem::open(&proc(puppet)).unwrap().read_exact(at.start(), &mut bytes).unwrap();
    bytes
}

pub(crate) fn check(was: &Bare, is: &Bare, unreadable: &[AddrRange]) {
    let (was_maps, is_maps) = (smaps(was), smaps(is));
    for (was, is) in was_maps.iter().zip(&is_maps) {
        assert_eq!(was, is);
    }
    assert_eq!(was_maps.len(), is_maps.len(), "{was_maps:#?}\n{is_maps:#?}");
    for (vma, flags) in &was_maps {
        let pages = (0..vma.range.pages())
            .map(|page| range(vma.range.start().as_raw() + page * PAGE_SIZE, 1))
            .filter(|page| !unreadable.iter().any(|hole| hole.intersection(*page).is_some()));
        if !flags.contains("IO") && vma.range.start().as_raw() >> 47 == 0 {
            for page in pages {
                assert!(contents(was, page) == contents(is, page), "{page}");
            }
        }
    }
    let (was, is) = (proc(was), proc(is));
    assert_eq!(was.stat().unwrap().layout, is.stat().unwrap().layout);
}

/// Restores a family, in the order the plan asks for. Each process is forked by its parent.
pub(crate) fn restore_family(
    plan: &RestorePlan<'_>,
    parents: &[Option<usize>],
    open: &Open,
) -> Vec<Bare> {
    let mut family: Vec<Option<Bare>> = parents.iter().map(|_| None).collect();
    family[0] = Some(bare());
    for number in 0..parents.len() {
        let mut own = family[number].take().expect("its parent has forked it");
        let mut multiply = |own: &mut Bare, shares: bool| {
            for child in 0..parents.len() {
                if parents[child] == Some(number) && plan.shares_with_parent(child) == shares {
                    family[child] = Some(fork(own));
                }
            }
        };
        multiply(&mut own, false);
        plan.map(number, &mut own, open).unwrap();
        plan.fill_common(number, own.tid()).unwrap();
        multiply(&mut own, true);
        plan.settle(number, &mut own).unwrap();
        family[number] = Some(own);
    }
    let mut family: Vec<Bare> = family.into_iter().flatten().collect();
    let pids: Vec<_> = family.iter().map(Bare::tid).enumerate().collect();
    plan.fill(&pids).unwrap().wait().unwrap();
    for (number, puppet) in family.iter_mut().enumerate() {
        plan.make_contexts(number, puppet).unwrap();
        plan.finish(number, puppet, open).unwrap();
    }
    family
}
