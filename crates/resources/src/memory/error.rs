//! What can go wrong with memory.

use std::ffi::OsString;
use std::io;

use dormouse_image::pagemap::PagemapProblem;
use dormouse_image::{ImageError, ImageName};
use dormouse_kernel::shm::{self, SegmentId};
use dormouse_kernel::{Addr, AddrRange, Errno, HostPid, pagemap, proc, remote_memory, sched};
use thiserror::Error;

use super::obstacle::Obstacle;

/// The result of a verb of this room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Saving or restoring memory failed.
#[derive(Debug, Error)]
pub enum Error {
    /// A mapping that cannot be carried over.
    #[error("the mapping {name:?} at {range} of task {pid} cannot be checkpointed: {obstacle}")]
    Unsupported {
        /// The process.
        pid: HostPid,
        /// Where.
        range: AddrRange,
        /// What maps calls it.
        name: OsString,
        /// Why not.
        obstacle: Obstacle,
    },
    /// An image that contradicts itself.
    #[error("{image}: the mapping at {at}: {problem}")]
    Corrupt {
        /// The image.
        image: ImageName,
        /// Start of the mapping concerned.
        at: Addr,
        /// What is wrong.
        problem: MappingProblem,
    },
    /// A System V segment that the tree needs.
    #[error("the number or the key of System V shared memory segment {id} is taken by another")]
    SegmentTaken {
        /// Its number.
        id: SegmentId,
    },
    /// The kernel makes another kind of ring than the tree needs.
    #[error("the asynchronous I/O context at {at} cannot be made as it was")]
    AioRing {
        /// Where it is to be.
        at: Addr,
    },
    /// The kernel has mapped a ring elsewhere.
    #[error("the io_uring at {at} cannot be mapped where it was")]
    RingPlace {
        /// Where it is to be.
        at: Addr,
    },
    /// A call about a System V segment failed.
    #[error(transparent)]
    Segment(#[from] shm::Error),
    /// Having a task run on one processor failed.
    #[error(transparent)]
    Scheduling(#[from] sched::Error),
    /// Reading `/proc` failed.
    #[error(transparent)]
    Proc(#[from] proc::Error),
    /// Reading or writing an image failed.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Looking at the pages of a task failed.
    #[error(transparent)]
    Pagemap(#[from] pagemap::Error),
    /// Moving the memory of a task failed.
    #[error(transparent)]
    Remote(#[from] remote_memory::Error),
    /// A system call inside a task failed.
    #[error(transparent)]
    Puppet(#[from] dormouse_puppet::Error),
    /// The caller wants no more of it.
    #[error("the work was abandoned")]
    Abandoned,
    /// Pages that were there when the tree was stopped are gone.
    #[error("pages at {at} of task {pid} vanished while they were copied")]
    Vanished {
        /// The process.
        pid: HostPid,
        /// The first of them.
        at: Addr,
    },
    /// The pages found cannot be described in an image.
    #[error("cannot describe the pages of {image}")]
    PageOrder {
        /// The image.
        image: ImageName,
        /// Why not.
        #[source]
        problem: PagemapProblem,
    },
    /// A system call of dormouse itself failed.
    #[error("cannot {operation}")]
    Kernel {
        /// What was tried.
        operation: &'static str,
        /// The answer.
        source: Errno,
    },
    /// Reading or writing a pages file failed.
    #[error("cannot {operation} {image}")]
    Pages {
        /// What was tried.
        operation: &'static str,
        /// The file.
        image: ImageName,
        /// The answer.
        source: io::Error,
    },
}

/// What is wrong with a mapping in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MappingProblem {
    /// Not whole pages, empty, or beyond the end of user memory.
    #[error("its bounds are no run of pages")]
    Bounds,
    /// The list does not ascend, or mappings overlap.
    #[error("it begins before the end of the mapping before it")]
    Order,
    /// `PROT_*`.
    #[error("protection {0:#x} means nothing")]
    Protection(u32),
    /// `MAP_*`.
    #[error("flags {0:#x} mean nothing here")]
    Flags(u32),
    /// `VMA_AREA_*`.
    #[error("status {0:#x} means nothing")]
    Status(u32),
    /// `VMA_AREA_*` that means something, but not to this version.
    #[error("its kind (status {0:#x}) cannot be restored")]
    Unsupported(u32),
    /// The bits of `madvise(2)`.
    #[error("advice {0:#x} means nothing here")]
    Advice(u64),
    /// A number that names nothing.
    #[error("{0} is no number of a file or object")]
    Id(u64),
    /// An offset that is no whole page, or so high that the end is beyond any
    /// file.
    #[error("offset {0:#x} is out of bounds")]
    Offset(u64),
    /// A name of a mapping that has none, or an impossible one.
    #[error("it cannot have this name")]
    Name,
    /// Guard pages outside of any mapping.
    #[error("guard pages where nothing is mapped")]
    Guard,
    /// Stored pages outside of any mapping that has pages of its own.
    #[error("stored pages where no private memory is mapped")]
    Pages,
    /// Pages that are with a page server.
    #[error("its pages are in no file")]
    Remote,
    /// The vDSO of another kernel.
    #[error("its vDSO is not that of this kernel, and cannot be redirected to it")]
    OtherVdso,
    /// A thread that goes on in code of another kernel.
    #[error(
        "a thread is in the middle of a vDSO function that this kernel does not have; another \
         dump of the program will catch it elsewhere"
    )]
    InsideVdso,
    /// A vvar without a vDSO, or more than one of either.
    #[error("vDSO and vvar do not go together")]
    Vdso,
    /// The addresses of the mm.
    #[error("the addresses of code, data, heap, arguments or environment are out of order")]
    Layout,
    /// `ipcns-shm-ID.img`.
    #[error("System V shared memory segment {0} makes no sense, or is not described")]
    Segment(SegmentId),
    /// `aio_ring_entry`, or the header of a ring.
    #[error("it is described wrongly as the ring of an asynchronous I/O context")]
    AioRing,
    /// `PR_GET_DUMPABLE`.
    #[error("{0} is no answer of PR_GET_DUMPABLE")]
    Dumpable(i32),
    /// auxv.
    #[error("the auxiliary vector has an odd or excessive number of words")]
    Auxv,
}
