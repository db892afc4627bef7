//! Memory of a process, for people.

use serde::Serialize;

use crate::describe::{Files, text};
use crate::error::Result;
use crate::name::ImageName;
use crate::pagemap::{PAGE_SIZE, PageFlags, flagged};
use crate::proto::mm::{MmEntry, VmaEntry};
use crate::proto::vma_status as status;
use crate::store::ImageDir;

/// The memory of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Bytes mapped.
    pub mapped_bytes: u64,
    /// Where its pages are.
    pub pages: StoredPages,
    /// The mappings, ascending.
    pub mappings: Vec<Mapping>,
}

/// Where the contents of pages are. Those of mapped files and shared memory are not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StoredPages {
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Pages in this directory.
    pub here: u64,
    /// Pages in the parent directory.
    pub in_parent: u64,
    /// Pages in no file.
    pub remote: u64,
}

/// A mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// As in `/proc/PID/maps`: `rwxp`.
    pub access: String,
    /// What it is.
    pub kind: &'static str,
    /// The mapped file, if there is one and it is known; or the name `PR_SET_VMA_ANON_NAME` gave,
    /// as `/proc/PID/maps` shows it.
    pub file: Option<String>,
    /// Offset in the file in bytes.
    pub offset: u64,
}

/// The program's path, and the memory; neither for a process without.
pub(super) fn read(
    dir: &ImageDir,
    files: &Files,
    pid: u32,
) -> Result<(Option<String>, Option<Memory>)> {
    let Some(mm) = dir.find_one::<MmEntry>(ImageName::Mm(pid))? else { return Ok((None, None)) };
    let mut pages = StoredPages { page_bytes: PAGE_SIZE, ..StoredPages::default() };
    for (nr_pages, flags) in flagged(dir, ImageName::Pagemap(pid))? {
        let count = if flags.contains(PageFlags::PARENT) {
            &mut pages.in_parent
        } else if flags.contains(PageFlags::PRESENT) {
            &mut pages.here
        } else {
            &mut pages.remote
        };
        *count = count.saturating_add(nr_pages);
    }
    // Guard pages are no mappings.
    let real = |vma: &&VmaEntry| vma.status & status::GUARD == 0;
    let mapped_bytes = mm
        .vmas
        .iter()
        .filter(real)
        .fold(0_u64, |sum, vma| sum.saturating_add(vma.end.saturating_sub(vma.start)));
    let mappings = mm.vmas.iter().map(|vma| mapping(files, vma)).collect();
    Ok((files.path(mm.exe_file_id), Some(Memory { mapped_bytes, pages, mappings })))
}

fn mapping(files: &Files, vma: &VmaEntry) -> Mapping {
    const PROT: [(u32, char); 3] = [(1, 'r'), (2, 'w'), (4, 'x')];
    const MAP_SHARED: u32 = 1;
    let shared = vma.flags & MAP_SHARED != 0;
    let access = PROT
        .into_iter()
        .map(|(bit, letter)| if vma.prot & bit == 0 { '-' } else { letter })
        .chain([if shared { 's' } else { 'p' }])
        .collect();
    let file = match vma.status {
        s if s & status::MEMFD != 0 => files.memfds.get(&vma.shmid).map(|m| text(&m.name)),
        s if s & (status::FILE_PRIVATE | status::FILE_SHARED) != 0 => {
            u32::try_from(vma.shmid).ok().and_then(|id| files.path(id))
        }
        _ => vma.name.as_deref().map(|name| format!("[anon:{}]", text(name))),
    };
    let Some(&(_, kind)) = KINDS.iter().find(|(bit, _)| vma.status & bit != 0) else {
        return Mapping {
            start: vma.start,
            end: vma.end,
            access,
            kind: "unknown",
            file,
            offset: vma.pgoff,
        };
    };
    Mapping { start: vma.start, end: vma.end, access, kind, file, offset: vma.pgoff }
}

/// Names of mappings; the first that fits counts.
const KINDS: [(u32, &str); 17] = [
    (status::EXT_PLUGIN, "plugin"),
    (status::GUARD, "guard pages"),
    (status::UPROBES, "uprobes"),
    (status::VSYSCALL, "vsyscall"),
    (status::VDSO, "vdso"),
    (status::VVAR, "vvar"),
    (status::AIO_RING, "aio ring"),
    (status::SHADOW_STACK, "shadow stack"),
    (status::STACK, "stack"),
    (status::HEAP, "heap"),
    (status::SYSVIPC, "system v shared memory"),
    (status::SOCKET, "socket ring"),
    (status::MEMFD, "memfd"),
    (status::FILE_PRIVATE, "private file"),
    (status::FILE_SHARED, "shared file"),
    (status::ANON_SHARED, "shared memory"),
    (status::ANON_PRIVATE, "anonymous"),
];
