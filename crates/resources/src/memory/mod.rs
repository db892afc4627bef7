//! The memory of processes.
//!
//! **Kernel object**: `struct mm_struct` with its mappings and pages, and the objects behind shared
//! anonymous memory and memfds.
//!
//! **Truth from**: `/proc/PID/smaps`, `stat`, `auxv`, `exe`, `pagemap` (`PAGEMAP_SCAN`, frame
//! numbers), `map_files`, `mem`, `process_vm_readv(2)`; the puppet for `brk(2)`, `PR_GET_DUMPABLE`
//! and `PR_GET_THP_DISABLE`. The process is stopped all the time.
//!
//! **Image**: `mm-PID.img`, `pagemap-PID.img`, `pagemap-shmem-ID.img`, `pages-N.img`, and a
//! directory `cow` with a link `parent` to it, if processes have pages in common.
//!
//! System V segments are in the room `segment`. Which memory is registered with which userfaultfd is kept with that.
//!
//! **Not preserved**: NUMA policies; which pages are swapped out, huge, locked by somebody else's
//! pin, or zeros that were written; what is in memory that the kernel may drop at any time
//! (`MAP_DROPPABLE`). Everything else is kept, or refused with an [`Obstacle`].
//!
//! **Kernel needed**: 6.7 (`PAGEMAP_SCAN`), or a slower walk; 6.15 to know guard pages; `CAP_SYS_ADMIN`, or
//! `CAP_CHECKPOINT_RESTORE` without pages in common.
//!
//! # A dump
//!
//! ```text
//! let mut mappings = Mappings::new(SharedObjects::new()?, Uprobes::Refuse);
//! for each address space:
//!     let Enumerated { vmas, guards, pages, .. } = mappings.enumerate(&proc, Walked::read(&proc)?, |file| id of file)?;
//!     images.put_one(ImageName::Mm(pid), &Mm { vmas, guards, .. }.encode())?;
//! memfds that are only open, not mapped:
//!     let shmem_id = mappings.objects().add(memfd)?;
//! let objects = mappings.into_objects();
//! let plan = PageDump::plan(processes with their pages, &objects)?;
//! let counts = plan.write(&images, &mut |bytes| ..)?;
//! ```
//!
//! # A restore
//!
//! ```text
//! let mut files = PagesFiles::new();
//! for each address space:
//!     SavedMemory::decode(&images, pid, &mut files)?;
//! for each pagemap-shmem-ID.img:
//!     SavedObject::decode(&images, id, &mut files)?;
//! let room = RestorePlan::free_room(&memories, what is mapped here, len);
//! let plan = RestorePlan::new(&processes, files.into(), KernelVdso::probe()?.as_ref(), room)?;
//! for (id, object) in SharedMemory::of(&memories):
//!     let file = object.create(&mut puppet)?;
//!     saved.fill(&file, object.size, &files, ..)?;
//! for each process, parents first (see RestorePlan for the order):
//!     plan.map(process, &mut puppet, how to open files there)?;
//!     plan.fill_common(process, pid)?;
//!     fork the children that share with it
//!     plan.settle(process, &mut puppet)?;
//! let filling = plan.fill(&all processes)?;
//! other work on the processes
//! filling.wait()?;
//! for each process:
//!     plan.make_contexts(process, &mut puppet)?;
//!     plan.finish(process, &mut puppet, how to open files there)?;
//! memory is registered with userfaultfds
//! for each process:
//!     plan.allow_huge_pages(process, &mut puppet)?;
//! ```
//!
//! What is mapped is compared with what is to be: what a process has inherited stays where it fits.
//! Pages go in by threads that need nobody's help. Pages in common are told by their place in the
//! pages files, or in an image of CRIU's by their contents.

mod aio;
mod compare;
mod contents;
mod copy;
mod crowd;
mod encode;
mod error;
mod fill;
mod layout;
mod mm;
mod obstacle;
mod outlook;
mod page_dump;
mod pieces;
mod planner;
mod recognise;
mod restore_plan;
mod ring;
#[cfg(test)]
mod samples;
mod saved;
mod saved_object;
mod segment;
mod shared;
mod sharing;
mod steps;
mod survey;
mod userfaults;
mod vdso;
mod vma;
mod walked;
mod workers;

pub use aio::AioHeader;
pub use crowd::is_crowded;
pub use error::{Error, MappingProblem, Result};
pub use fill::Filling;
pub use mm::{Dumpable, Mm, TransparentHugePages};
pub use obstacle::Obstacle;
pub use outlook::{Outlook, OutlookAsked};
pub use page_dump::{DumpedPages, DumpedProcess, PageDump};
pub use recognise::{Enumerated, Mappings, Uprobes};
pub use restore_plan::{PlannedPages, RestorePlan, RestoredProcess};
pub use saved::{PagesFiles, SavedMemory};
pub use saved_object::{SavedObject, SharedMemory};
pub use segment::{HOST_IPC, MadeSegments, Segment, Segments};
pub use shared::SharedObjects;
pub use steps::{MapFiles, MapSource};
pub use survey::StoredPages;
pub use vdso::KernelVdso;
pub use vma::{
    Access, Advice, Backing, FileRange, HugePages, Lock, MappedFile, ProtFlags, ShmemId, Traits,
    Vma,
};
pub use walked::Walked;
pub use workers::MOST_THREADS;
