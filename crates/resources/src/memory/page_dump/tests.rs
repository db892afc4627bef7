use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use dormouse_image::pagemap::{Location, Pagemap as Image};
use dormouse_image::proto::inventory::InventoryEntry;
use dormouse_image::store::ImageDir;
use dormouse_kernel::HostPid;
use dormouse_kernel::clone::{CloneFlags, spawn_bare};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::*;
use crate::file::FileId;
use crate::memory::{Enumerated, Error, Mappings, Uprobes, Walked};

const PAGE: usize = PAGE_SIZE as usize;

/// A copy of this process that stands still. It ends with this value.
struct Copy(HostPid);

impl Copy {
    fn new() -> Self {
        let pid = spawn_bare(&[], CloneFlags::empty()).unwrap();
        let copy = Self(pid);
        // It runs on for a moment until it waits for good.
        let proc = copy.proc();
        while proc.stat().unwrap().state != dormouse_kernel::proc::TaskState::Sleeping {
            std::thread::yield_now();
        }
        copy
    }

    fn proc(&self) -> ProcDir {
        ProcDir::open(self.0).unwrap()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.0.as_raw()).unwrap();
        let _ = kill_process(pid, Signal::KILL);
        let _ = waitpid(Some(pid), WaitOptions::empty());
    }
}

fn enumerate(mappings: &mut Mappings, proc: &ProcDir) -> Enumerated {
    mappings
        .enumerate(proc, Walked::read(proc).unwrap(), |_| Ok::<_, Error>(FileId::from_raw(1)))
        .unwrap()
}

fn begin(dir: &Path) -> NewDump {
    NewDump::begin(dir).unwrap()
}

fn commit(dump: NewDump, dir: &Path) -> ImageDir {
    let inventory = InventoryEntry { img_version: 2, ..InventoryEntry::default() };
    dump.commit(&inventory).unwrap();
    ImageDir::open(dir).unwrap().0
}

/// All stored pages of a process, by address.
fn read_back(dir: &ImageDir, image: ImageName) -> BTreeMap<u64, Vec<u8>> {
    let stored = Image::read(dir, image).unwrap().unwrap();
    let mut pages = BTreeMap::new();
    for run in stored.runs {
        let Location::File { level, offset } = run.location else { panic!("{run:?}") };
        let file: &File = &stored.files[level].as_ref().unwrap().file;
        for page in 0..run.nr_pages {
            let mut contents = vec![0; PAGE];
            file.read_exact_at(&mut contents, offset + page * PAGE_SIZE).unwrap();
            pages.insert(run.vaddr + page * PAGE_SIZE, contents);
        }
    }
    pages
}

/// Checks that `pages` is what the process has at the addresses of `stored`.
fn check(proc: &ProcDir, stored: &StoredPages, pages: &BTreeMap<u64, Vec<u8>>) {
    let mem = Mem::open(proc).unwrap();
    let mut left_out = 0;
    let mut expected = 0;
    for run in &stored.runs {
        for page in 0..run.range.pages() {
            expected += 1;
            let addr = run.range.start().checked_add(page * PAGE_SIZE).unwrap();
            let mut contents = vec![0; PAGE];
            mem.read_exact(addr, &mut contents).unwrap();
            match pages.get(&addr.as_raw()) {
                Some(page) => assert!(*page == contents, "{addr}"),
                None => {
                    assert!(run.traits.zero_is_nothing && contents == [0; PAGE], "{addr}");
                    left_out += 1;
                }
            }
        }
    }
    assert_eq!(pages.len() + left_out, expected);
}

/// Numbers that do not repeat, so that a page in the wrong place is seen.
fn fill(buffer: &mut [u8], seed: u64) {
    for (number, chunk) in (seed..).zip(buffer.chunks_exact_mut(8)) {
        chunk.copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_ne_bytes());
    }
}

#[test]
fn a_process_is_stored_with_all_its_pages() {
    let mut buffer = vec![0u8; 3 << 20];
    fill(&mut buffer, 1);
    buffer[1 << 20..2 << 20].fill(0);
    let copy = Copy::new();
    let proc = copy.proc();
    let mut mappings = Mappings::new(SharedObjects::new().unwrap(), Uprobes::Refuse);
    let Enumerated { pages, guards, .. } = enumerate(&mut mappings, &proc);
    let walked = Walked::read_by_two(&proc).unwrap();
    let by_two = mappings.enumerate(&proc, walked, |_| Ok::<_, Error>(FileId::from_raw(1)));
    let by_two = by_two.unwrap();
    // This process runs on, so what they share becomes less.
    let ranges = |pages: &StoredPages| pages.runs.iter().map(|run| run.range).collect::<Vec<_>>();
    assert_eq!((ranges(&by_two.pages), by_two.guards), (ranges(&pages), guards));
    let objects = mappings.into_objects();
    let dir = tempfile::tempdir().unwrap();
    let dump = begin(dir.path());
    let process = DumpedProcess {
        image_pid: 7,
        proc: &proc,
        pages: pages.clone(),
        lowest: Addr::from_raw(0x10000),
    };
    let plan = PageDump::plan(vec![process], &objects).unwrap();
    let bytes = plan.bytes();
    let mut told = 0;
    let counts = plan
        .write(&dump, &mut |moved| {
            told += moved;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(told, bytes);
    assert_eq!(bytes, counts.found * PAGE_SIZE);
    // The zeros in the middle, at least.
    assert!(counts.written + 250 < counts.found, "{counts:?}");
    assert_eq!(counts.written_in_common, 0);
    let images = commit(dump, dir.path());
    assert_eq!(images.list().unwrap()[&ImageName::Pages(1)].len, counts.written * PAGE_SIZE);
    check(&proc, &pages, &read_back(&images, ImageName::Pagemap(7)));
}

#[test]
fn what_a_family_has_in_common_is_stored_once() {
    const SIZE: usize = 8 << 20;
    let mut buffer = vec![0u8; SIZE];
    fill(&mut buffer, 1);
    let mut copies = Vec::new();
    for child in 0..4 {
        // Each finds the buffer a little different, and changes nothing more.
        fill(&mut buffer[child << 20..][..64 << 10], 1 << (40 + child));
        copies.push(Copy::new());
    }
    let procs: Vec<_> = copies.iter().map(Copy::proc).collect();
    let mut mappings = Mappings::new(SharedObjects::new().unwrap(), Uprobes::Refuse);
    let spaces: Vec<_> = procs.iter().map(|proc| enumerate(&mut mappings, proc)).collect();
    let objects = mappings.into_objects();
    let write = |dir: &Path| {
        let dump = begin(dir);
        let processes = (1..).zip(&procs).zip(&spaces).map(|((image_pid, proc), space)| {
            let lowest = space.vmas[0].range.start();
            DumpedProcess { image_pid, proc, pages: space.pages.clone(), lowest }
        });
        let plan = PageDump::plan(processes.collect(), &objects).unwrap();
        let counts = plan.write(&dump, &mut |_| ControlFlow::Continue(())).unwrap();
        (commit(dump, dir), counts)
    };
    let dir = tempfile::tempdir().unwrap();
    let (images, counts) = write(dir.path());
    for ((image_pid, proc), space) in (1..).zip(&procs).zip(&spaces) {
        check(proc, &space.pages, &read_back(&images, ImageName::Pagemap(image_pid)));
    }
    let once = (SIZE as u64 + 3 * (64 << 10)) / PAGE_SIZE;
    assert!(counts.written_in_common >= once, "{counts:?}");
    assert!(counts.written + counts.written_in_common < counts.found / 2, "{counts:?}");
    assert!(counts.in_common > 3 * SIZE as u64 / PAGE_SIZE, "{counts:?}");

    // Twice the same.
    let again = tempfile::tempdir().unwrap();
    let (_, counts_again) = write(again.path());
    assert_eq!(counts, counts_again);
    for name in ["pages-1.img", "pagemap-1.img", "cow/pages-1.img", "cow/pagemap-4.img"] {
        let read = |dir: &Path| std::fs::read(dir.join(name)).unwrap();
        assert!(read(dir.path()) == read(again.path()), "{name}");
    }
}

#[test]
fn shared_memory_is_stored_by_what_is_in_it() {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    let memfd = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&memfd, (1 << 40) + 5).unwrap();
    let put = |contents: &[u8], offset| {
        assert_eq!(rustix::io::pwrite(&memfd, contents, offset).unwrap(), contents.len());
    };
    put(b"first", 0);
    put(&[0; 3 * PAGE], 1 << 30);
    put(b"last", (1 << 40) + 1);
    let mut objects = SharedObjects::new().unwrap();
    let id = objects.add(memfd.try_clone().unwrap()).unwrap();
    assert_eq!(objects.add(memfd.try_clone().unwrap()).unwrap(), id);
    let dir = tempfile::tempdir().unwrap();
    let dump = begin(dir.path());
    let plan = PageDump::plan(Vec::new(), &objects).unwrap();
    assert_eq!(plan.bytes(), 5 * PAGE_SIZE);
    let counts = plan.write(&dump, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((counts.found_shared, counts.written_shared), (5, 2));
    let images = commit(dump, dir.path());
    let pages = read_back(&images, ImageName::PagemapShmem(id.as_raw().into()));
    assert!(pages.keys().copied().eq([0, 1 << 40]));
    assert!(pages[&0].starts_with(b"first\0"));
    assert!(pages[&(1 << 40)].starts_with(b"\0last\0"));
}
