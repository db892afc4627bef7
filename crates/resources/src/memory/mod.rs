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
//! **Not preserved**: NUMA policies; which pages are swapped out, huge, locked by somebody else's
//! pin, or zeros that were written; `MCL_FUTURE`. Everything else is kept, or refused with an
//! [`Obstacle`].
//!
//! **Kernel needed**: 6.7 (`PAGEMAP_SCAN`); 6.16 to know guard pages; `CAP_SYS_ADMIN`, or
//! `CAP_CHECKPOINT_RESTORE` without pages in common.
//!
//! # A dump
//!
//! ```text
//! let mut mappings = Mappings::new(SharedObjects::new()?, Uprobes::Refuse);
//! for each address space:
//!     let Enumerated { vmas, guards, pages } = mappings.enumerate(&proc, |file| id of file)?;
//!     images.put_one(ImageName::Mm(pid), &Mm { vmas, guards, .. }.encode())?;
//! memfds that are only open, not mapped:
//!     let shmem_id = mappings.objects().add(memfd)?;
//! let objects = mappings.into_objects();
//! let plan = PageDump::plan(processes with their pages, &objects)?;
//! let counts = plan.write(&images, &mut |bytes| ..)?;
//! ```

mod copy;
mod encode;
mod error;
mod mm;
mod page_dump;
mod recognise;
#[cfg(test)]
mod samples;
mod shared;
mod sharing;
mod survey;
mod vma;
mod workers;

pub use error::{Error, MappingProblem, Obstacle, Result};
pub use mm::{Dumpable, Mm};
pub use page_dump::{DumpedPages, DumpedProcess, PageDump};
pub use recognise::{Enumerated, Mappings, Uprobes};
pub use shared::SharedObjects;
pub use survey::StoredPages;
pub use vma::{
    Access, Advice, Backing, FileRange, Lock, MappedFile, ProtFlags, ShmemId, Traits, Vma,
};
