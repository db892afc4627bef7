//! Maps and fills the address space of a process.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use dormouse_image::pagemap::{Location, Pagemap};
use dormouse_image::{ImageDir, ImageName};
use dormouse_kernel::proc::{self, ProcDir};
use dormouse_kernel::remote_memory::Mem;
use dormouse_kernel::{Addr, PAGE_SIZE};
use dormouse_puppet::{Arg, Batch};
use dormouse_resources::file::CreateCx;
use dormouse_resources::memory::{Advice, Backing, Lock, ShmemId, Traits, Vma};
use rustix::fs::OFlags;

use super::decode::{Body, Process, host};
use super::world::World;
use crate::Progress;
use crate::cause::Cause;

/// Shared memory objects that exist so far.
#[derive(Debug, Default)]
pub(super) struct Objects(BTreeMap<ShmemId, OwnedFd>);

const ARCH_MAP_VDSO_64: u64 = 0x2003;

/// Gives the process all its mappings, with their contents.
pub(super) fn restore(
    process: &Process,
    body: &Body,
    (world, objects): (&mut World, &mut Objects),
    (dir, cx): (&ImageDir, &mut CreateCx<'_>),
    progress: &mut dyn Progress,
) -> Result<(), Cause> {
    let pid = process.node.pid;
    describe(body, (&mut *world, &mut *cx), pid)?;
    let proc = ProcDir::open(host(pid))?;
    let mut files: BTreeMap<_, (OwnedFd, dormouse_puppet::Slot)> = BTreeMap::new();
    let mut batch = Batch::new();
    for vma in &body.mm.vmas {
        let start = vma.range.start();
        match &vma.backing {
            Backing::Anonymous { .. } | Backing::Droppable => {
                let flags = map_flags(vma, true) | libc::MAP_ANONYMOUS;
                map(&mut batch, vma, flags, (-1).into(), 0);
            }
            Backing::File { file, private } => {
                let (_, slot) = match files.entry((file.file, file.access)) {
                    Entry::Occupied(opened) => opened.into_mut(),
                    Entry::Vacant(place) => {
                        let file_ref = body.mapped[&file.file];
                        let opened = cx.open_for_mapping(file_ref, file.access.open_flags())?;
                        let slot = world.fetch(&mut batch, opened.as_fd());
                        place.insert((opened, slot))
                    }
                };
                map(&mut batch, vma, map_flags(vma, *private), (&*slot).into(), file.offset);
            }
            Backing::SharedMemory { object, offset } => match objects.0.get(object) {
                Some(opened) => {
                    let slot = world.fetch(&mut batch, opened.as_fd());
                    map(&mut batch, vma, map_flags(vma, false), (&slot).into(), *offset);
                    batch.call(libc::SYS_close, [(&slot).into()]);
                }
                None => {
                    // Slots end with their batch, and descriptors do not.
                    for (_, slot) in files.values() {
                        batch.call(libc::SYS_close, [slot.into()]);
                    }
                    world.run(pid, std::mem::take(&mut batch))?;
                    files.clear();
                    make_object(vma, (*object, *offset), (process, dir), (world, objects))?;
                }
            },
            Backing::Vvar => {}
            Backing::Vdso => {
                // The data pages come first, and both are mapped at once.
                let vvar = body.mm.vmas.iter().find(|vma| vma.backing == Backing::Vvar);
                let at = vvar.map_or(start, |vvar| vvar.range.start());
                batch.call(libc::SYS_arch_prctl, [ARCH_MAP_VDSO_64.into(), at.into()]);
            }
            Backing::Vsyscall => {}
        }
    }
    for (_, slot) in files.values() {
        batch.call(libc::SYS_close, [slot.into()]);
    }
    world.run(pid, batch)?;
    if let Some(pages) = &body.pages {
        fill(&proc, pages, progress)?;
    }
    finish(body, world, pid)
}

fn map_flags(vma: &Vma, private: bool) -> i32 {
    let mut flags =
        libc::MAP_FIXED_NOREPLACE | if private { libc::MAP_PRIVATE } else { libc::MAP_SHARED };
    if vma.traits.contains(Traits::GROWS_DOWN) {
        flags |= libc::MAP_GROWSDOWN;
    }
    if vma.traits.contains(Traits::NO_RESERVE) {
        flags |= libc::MAP_NORESERVE;
    }
    flags
}

fn map(batch: &mut Batch, vma: &Vma, flags: i32, fd: Arg, offset: u64) {
    let (start, len) = (vma.range.start(), vma.range.len());
    // Memory that was once writable is accounted for; it has to be writable
    // at first here too.
    let prot = vma.prot.bits();
    let once =
        if vma.traits.contains(Traits::ACCOUNTED) { prot | libc::PROT_WRITE as u32 } else { prot };
    batch.call(
        libc::SYS_mmap,
        [start.into(), len.into(), once.into(), flags.into(), fd, offset.into()],
    );
    if once != prot {
        batch.call(libc::SYS_mprotect, [start.into(), len.into(), prot.into()]);
    }
}

/// The first mapping of a shared object makes it; others get it through
/// `/proc/PID/map_files`.
fn make_object(
    vma: &Vma,
    (object, offset): (ShmemId, u64),
    (process, dir): (&Process, &ImageDir),
    (world, objects): (&mut World, &mut Objects),
) -> Result<(), Cause> {
    let pid = process.node.pid;
    let stored = Pagemap::read(dir, ImageName::PagemapShmem(object.as_raw().into()))?;
    let end = stored
        .iter()
        .flat_map(|stored| &stored.runs)
        .map(|run| run.vaddr + run.nr_pages * PAGE_SIZE)
        .max()
        .unwrap_or(0);
    let size = end.max(offset + vma.range.len());
    // Somewhere else first, whole.
    let mut batch = Batch::new();
    let whole = batch.call(
        libc::SYS_mmap,
        [
            0.into(),
            size.into(),
            (libc::PROT_READ | libc::PROT_WRITE).into(),
            (libc::MAP_SHARED | libc::MAP_ANONYMOUS).into(),
            (-1).into(),
            0.into(),
        ],
    );
    let at = world.run(pid, batch)?.value(&whole);
    let range = dormouse_kernel::AddrRange::with_len(Addr::from_raw(at), size)
        .expect("the kernel has mapped it");
    let proc = ProcDir::open(host(pid))?;
    let opened = proc.open_entry(proc::Entry::MapFile(range), OFlags::RDWR)?;
    if let Some(stored) = &stored {
        copy(stored, |bytes, vaddr| {
            rustix::io::pwrite(&opened, bytes, vaddr)
                .map(|_| ())
                .map_err(|source| own("pwrite", "shared memory", source))
        })?;
    }
    let mut batch = Batch::new();
    let slot = world.fetch(&mut batch, opened.as_fd());
    map(&mut batch, vma, map_flags(vma, false), (&slot).into(), offset);
    batch.call(libc::SYS_close, [(&slot).into()]);
    batch.call(libc::SYS_munmap, [at.into(), size.into()]);
    world.run(pid, batch)?;
    objects.0.insert(object, opened);
    Ok(())
}

/// Fills `file` with the stored pages of an object.
pub(super) fn load_object(
    dir: &ImageDir,
    object: u32,
    file: BorrowedFd<'_>,
) -> dormouse_resources::Result<()> {
    let image = ImageName::PagemapShmem(object.into());
    let Some(stored) = Pagemap::read(dir, image)? else { return Ok(()) };
    let result = copy(&stored, |bytes, vaddr| {
        rustix::io::pwrite(file, bytes, vaddr)
            .map(|_| ())
            .map_err(|source| own("pwrite", "memfd", source))
    });
    result.map_err(|cause| match cause {
        Cause::Own { call, subject, source } => {
            dormouse_resources::Error::Kernel { call, subject: subject.into(), source }
        }
        _ => dormouse_resources::Error::Corrupt {
            image,
            object: "memfd",
            id: object.into(),
            reason: "its pages are in no file",
        },
    })
}

fn own(call: &'static str, subject: &str, source: dormouse_kernel::Errno) -> Cause {
    Cause::Own { call, subject: subject.to_owned(), source }
}

/// Copies all stored pages, piece by piece.
fn copy(
    pages: &Pagemap,
    mut put: impl FnMut(&[u8], u64) -> Result<(), Cause>,
) -> Result<(), Cause> {
    const PIECE: u64 = 1 << 20;
    let mut buffer = vec![0; PIECE as usize];
    for run in &pages.runs {
        let Location::File { level, offset } = run.location else {
            return Err(Cause::Unsupported {
                what: "a page that a page server has",
                reason: "page servers are not there yet",
                hint: "dump without --page-server and --lazy-pages",
            });
        };
        let file = &pages.files[level].as_ref().expect("a run is in an open file").file;
        let len = run.nr_pages * PAGE_SIZE;
        let mut done = 0;
        while done < len {
            let piece = &mut buffer[..(len - done).min(PIECE) as usize];
            file.read_exact_at(piece, offset + done).map_err(|error| {
                let source = dormouse_kernel::Errno::from_io_error(&error);
                own("read", "a pages file", source.unwrap_or(dormouse_kernel::Errno::IO))
            })?;
            put(piece, run.vaddr + done)?;
            done += piece.len() as u64;
        }
    }
    Ok(())
}

fn fill(proc: &ProcDir, pages: &Pagemap, progress: &mut dyn Progress) -> Result<(), Cause> {
    let mem = Mem::open(proc)?;
    copy(pages, |bytes, vaddr| {
        progress.advance(bytes.len() as u64);
        mem.write_exact(Addr::from_raw(vaddr), bytes).map_err(|error| Cause::Memory(error.into()))
    })
}

/// Advice, locks and guard pages, which would be in the way of contents.
fn finish(body: &Body, world: &mut World, pid: dormouse_kernel::NsPid) -> Result<(), Cause> {
    let mm = &body.mm;
    let mut batch = Batch::new();
    for vma in &mm.vmas {
        let (start, len) = (vma.range.start(), vma.range.len());
        for advice in 0..64_u64 {
            if vma.advice.contains(Advice::from_bits_retain(1 << advice)) {
                batch.call(libc::SYS_madvise, [start.into(), len.into(), advice.into()]);
            }
        }
        match vma.lock {
            Lock::None => {}
            Lock::All => {
                batch.call(libc::SYS_mlock2, [start.into(), len.into(), 0.into()]);
            }
            Lock::OnFault => {
                const MLOCK_ONFAULT: u64 = 1;
                batch.call(libc::SYS_mlock2, [start.into(), len.into(), MLOCK_ONFAULT.into()]);
            }
        }
    }
    for guard in &mm.guards {
        const MADV_GUARD_INSTALL: u64 = 102;
        batch.call(
            libc::SYS_madvise,
            [guard.start().into(), guard.len().into(), MADV_GUARD_INSTALL.into()],
        );
    }
    if mm.thp_disabled {
        batch.call(
            libc::SYS_prctl,
            [libc::PR_SET_THP_DISABLE.into(), 1.into(), 0.into(), 0.into(), 0.into()],
        );
    }
    world.run(pid, batch)?;
    Ok(())
}

/// What the kernel keeps of the address space. The executable can only be
/// set while nothing of the one before is mapped, so this comes first; the
/// kernel does not care whether anything is mapped at the addresses.
fn describe(
    body: &Body,
    (world, cx): (&mut World, &mut CreateCx<'_>),
    pid: dormouse_kernel::NsPid,
) -> Result<(), Cause> {
    let mm = &body.mm;
    let mut batch = Batch::new();
    let exe = cx.open_for_mapping(body.mapped[&mm.exe], OFlags::RDONLY)?;
    let slot = world.fetch(&mut batch, exe.as_fd());
    let exe_number = world.run(pid, batch)?.value(&slot);
    let mut batch = Batch::new();
    let auxv: Vec<u8> = mm.auxv.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let auxv_at = batch.data(&auxv);
    let layout = &mm.layout;
    let words = [
        layout.code.0,
        layout.code.1,
        layout.data.0,
        layout.data.1,
        layout.start_brk,
        mm.brk,
        layout.start_stack,
        layout.args.0,
        layout.args.1,
        layout.env.0,
        layout.env.1,
        Addr::NULL,
    ];
    let mut map: Vec<u8> = words.iter().flat_map(|word| word.as_raw().to_ne_bytes()).collect();
    map.extend((auxv.len() as u32).to_ne_bytes());
    map.extend((exe_number as u32).to_ne_bytes());
    let map_len = map.len() as u64;
    let map = batch.data(&map);
    batch.point(map, 11 * 8, auxv_at);
    batch.call(
        libc::SYS_prctl,
        [libc::PR_SET_MM.into(), libc::PR_SET_MM_MAP.into(), map.into(), map_len.into(), 0.into()],
    );
    batch.call(libc::SYS_close, [exe_number.into()]);
    world.run(pid, batch)?;
    Ok(())
}
