//! A mapping, as dormouse sees it.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use bitflags::bitflags;
use dormouse_kernel::shm::SegmentId;
use dormouse_kernel::{AddrRange, DeviceId, PAGE_SIZE};
use rustix::mm::MapFlags;
pub use rustix::mm::ProtFlags;

use crate::file::FileId;

/// A shared memory object within one dump: shared anonymous memory, or the
/// inode behind a memfd. Its pages are in `pagemap-shmem-ID.img`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShmemId(u32);

impl ShmemId {
    /// Wraps the number an image holds.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The number images hold.
    #[must_use]
    pub const fn as_raw(self) -> u32 {
        self.0
    }
}

/// One mapping (`struct vm_area_struct`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vma {
    /// Where. Whole pages, never empty.
    pub range: AddrRange,
    /// What the process may do there now.
    pub prot: ProtFlags,
    /// What is mapped.
    pub backing: Backing,
    /// Flags that last from `mmap(2)` to `munmap(2)`.
    pub traits: Traits,
    /// What `madvise(2)` was told.
    pub advice: Advice,
    /// Whether it is locked in memory.
    pub lock: Lock,
    /// `PR_SET_VMA_ANON_NAME`.
    pub name: Option<Arc<OsStr>>,
    /// What pages it is made of, if they are reserved huge ones (hugetlb).
    pub huge: Option<HugePages>,
}

/// The logarithm of the size of a huge page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HugePages(u32);

impl HugePages {
    /// `MAP_HUGETLB`.
    const HUGETLB: u32 = 0x4_0000;
    /// `MAP_HUGE_SHIFT`.
    const SHIFT: u32 = 26;
    /// What the kernel takes if no size is said: 2 MiB, unless booted with another default.
    const DEFAULT: u32 = 21;

    /// Pages of so many bytes, which is a power of two.
    #[must_use]
    pub fn of_size(bytes: u64) -> Option<Self> {
        (bytes > PAGE_SIZE && bytes.is_power_of_two()).then(|| Self(bytes.ilog2()))
    }

    /// In bytes.
    #[must_use]
    pub const fn size(self) -> u64 {
        1 << self.0
    }

    /// For `mmap(2)`.
    #[must_use]
    pub const fn map_flags(self) -> MapFlags {
        MapFlags::from_bits_retain(Self::HUGETLB | self.0 << Self::SHIFT)
    }

    /// Takes them out of flags for `mmap(2)`. `None` if their size is none.
    pub(super) fn take(flags: &mut u32) -> Option<Option<Self>> {
        let size = *flags >> Self::SHIFT;
        let is_huge = *flags & Self::HUGETLB != 0;
        *flags &= ((1 << Self::SHIFT) - 1) & !Self::HUGETLB;
        match (is_huge, size) {
            (false, 0) => Some(None),
            (true, 0) => Some(Some(Self(Self::DEFAULT))),
            (true, _) => Self::of_size(1u64.checked_shl(size)?).map(Some),
            (false, _) => None,
        }
    }
}

/// What is mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Private anonymous memory; stack and heap are nothing else. `heap`
    /// says that maps calls it `[heap]`, which follows from the addresses in
    /// [`Mm`](super::Mm) and is kept for the image only.
    Anonymous {
        /// Between `start_brk` and `brk`.
        heap: bool,
    },
    /// Private anonymous memory the kernel may empty when it is short of
    /// memory (`MAP_DROPPABLE`). Its contents are never stored.
    Droppable,
    /// A file, memfds included.
    File {
        /// Which, and whence.
        file: FileRange,
        /// Whether stores stay within the process.
        private: bool,
    },
    /// Shared anonymous memory.
    SharedMemory {
        /// Which.
        object: ShmemId,
        /// The object's byte that the mapping begins with.
        offset: u64,
    },
    /// A System V segment, attached.
    Segment {
        /// Which.
        segment: SegmentId,
        /// The segment's byte that the mapping begins with.
        offset: u64,
        /// Whether it was attached with `SHM_RDONLY`.
        access: Access,
    },
    /// The ring of an AIO context, from its first byte to its last.
    AioRing {
        /// How many requests `io_setup(2)` was asked for.
        requests: u32,
    },
    /// The memory of an io_uring.
    Ring {
        /// The ring.
        file: FileId,
        /// Which part of it (`IORING_OFF_*`).
        offset: u64,
    },
    /// The kernel's code page.
    Vdso,
    /// Its data pages: `[vvar]` and all that follows it under other names
    /// (`[vvar_vclock]`), as one.
    Vvar,
    /// The page at a fixed address in the kernel's half, the same in every
    /// process.
    Vsyscall,
}

/// A part of a file, from `offset` bytes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRange {
    /// The file.
    pub file: FileId,
    /// How it was open when it was mapped.
    pub access: Access,
    /// Bytes. Always whole pages.
    pub offset: u64,
    /// Whether the file is a memfd; images say so.
    pub memfd: bool,
    /// Whether it is a packet socket, whose rings are mapped; images say so.
    pub socket: bool,
}

/// How a file has to be open to be mapped as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// `O_RDONLY`.
    ReadOnly,
    /// `O_RDWR`: stores to a shared mapping reach the file, or may after
    /// `mprotect(2)`.
    ReadWrite,
    /// `O_RDWR`, of a memfd that was sealed against writing before it was mapped: the kernel counts the
    /// mapping as shared all the same, and `mprotect(2)` cannot make it writable.
    Sealed,
}

/// Whether a mapping is locked in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Lock {
    /// It is not.
    #[default]
    None,
    /// All of it, from the start: `mlock(2)`.
    All,
    /// Each page once it is touched: `mlock2(MLOCK_ONFAULT)`.
    OnFault,
}

bitflags! {
    /// Flags of a mapping that no call takes away again.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Traits: u8 {
        /// `MAP_GROWSDOWN`: a stack.
        const GROWS_DOWN = 1;
        /// `MAP_NORESERVE`, given at a time when that meant something.
        const NO_RESERVE = 2;
        /// Counts as committed memory: private, without
        /// [`NO_RESERVE`](Self::NO_RESERVE), and writable now or at some time
        /// before. Neighbours that differ in this do not merge, so it decides
        /// how maps looks.
        const ACCOUNTED = 4;
        /// `mseal(2)`.
        const SEALED = 8;
        /// Registered with a userfaultfd: pages that are missing are to stay so.
        const USERFAULT = 16;
    }
}

bitflags! {
    /// What `madvise(2)` was told and not told otherwise since. Bit n is the
    /// advice with the number n, as in images.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Advice: u64 {
        /// `MADV_RANDOM`.
        const RANDOM = 1 << 1;
        /// `MADV_SEQUENTIAL`.
        const SEQUENTIAL = 1 << 2;
        /// `MADV_DONTFORK`.
        const DONT_FORK = 1 << 10;
        /// `MADV_MERGEABLE`.
        const MERGEABLE = 1 << 12;
        /// `MADV_HUGEPAGE`.
        const HUGE_PAGE = 1 << 14;
        /// `MADV_NOHUGEPAGE`.
        const NO_HUGE_PAGE = 1 << 15;
        /// `MADV_DONTDUMP`.
        const DONT_DUMP = 1 << 16;
        /// `MADV_WIPEONFORK`.
        const WIPE_ON_FORK = 1 << 18;
    }
}

impl Vma {
    /// Whether the process has pages here that nobody else stores for it:
    /// private memory, be it anonymous or written over a file's pages, and
    /// rings.
    #[must_use]
    pub fn is_private(&self) -> bool {
        matches!(
            self.backing,
            Backing::Anonymous { .. }
                | Backing::File { private: true, .. }
                | Backing::AioRing { .. }
        )
    }

    /// Whether its contents are those of a shared memory object, which is stored.
    #[must_use]
    pub fn is_shared_memory(&self) -> bool {
        matches!(
            self.backing,
            Backing::SharedMemory { .. }
                | Backing::File { file: FileRange { memfd: true, .. }, .. }
        )
    }

    /// Whether it is registered with a userfaultfd.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.traits.contains(Traits::USERFAULT)
    }

    /// Whether it is the memory of an io_uring, which can only be mapped last.
    #[must_use]
    pub fn is_ring(&self) -> bool {
        matches!(self.backing, Backing::Ring { .. })
    }

    /// Whether it is what can only be made of a memfd that is sealed.
    #[must_use]
    pub fn is_write_sealed(&self) -> bool {
        matches!(self.backing, Backing::File { file: FileRange { access: Access::Sealed, .. }, .. })
    }

    /// Whether pages here that were never written are zeros.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        matches!(self.backing, Backing::Anonymous { .. })
    }

    /// Whether the kernel gives and places it: nothing here is mapped by
    /// `mmap(2)`.
    #[must_use]
    pub fn is_special(&self) -> bool {
        matches!(self.backing, Backing::Vdso | Backing::Vvar | Backing::Vsyscall)
    }
}

/// A mapped file that has no [`FileId`] yet.
#[derive(Clone, Copy, Debug)]
pub struct MappedFile<'a> {
    /// The file system, as maps prints it: `stat(2)` may say another number.
    pub device: DeviceId,
    /// The inode.
    pub inode: u64,
    /// The name maps prints.
    pub path: &'a Path,
    /// A mapping of it: `map_files/START-END` leads to the file.
    pub range: AddrRange,
    /// How it has to be opened.
    pub access: Access,
    /// Whether it is a memfd.
    pub memfd: bool,
}

/// What maps calls the memory of an io_uring.
pub(super) const RING: &str = "anon_inode:[io_uring]";

/// What the names begin with that maps gives to what is mapped of sockets.
const SOCKET: &str = "socket:";

impl MappedFile<'_> {
    /// Whether it is a socket, to which no path leads.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        is_socket(self.path.as_os_str())
    }

    /// Whether it is the memory of an io_uring, to which no path leads.
    #[must_use]
    pub fn is_ring(&self) -> bool {
        self.path == Path::new(RING)
    }
}

pub(super) fn is_socket(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(SOCKET.as_bytes())
}
