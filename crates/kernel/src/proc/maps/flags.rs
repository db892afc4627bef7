//! What the kernel knows about a mapping.

use bitflags::bitflags;

macro_rules! vm_flags {
    ($($(#[$doc:ident $($text:tt)*])* $name:ident = $bit:literal, $code:literal;)*) => {
        bitflags! {
            /// `VmFlags:` of a mapping (`show_smap_vma_flags` in
            /// `fs/proc/task_mmu.c`). The bits are ours, the kernel prints
            /// letters.
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
            pub struct VmFlags: u64 {
                $($(#[$doc $($text)*])* const $name = 1 << $bit;)*
                /// At least one flag that this program does not know.
                const UNKNOWN = 1 << 63;
            }
        }

        impl VmFlags {
            pub(super) const fn from_code(code: [u8; 2]) -> Self {
                match &code {
                    $($code => Self::$name,)*
                    _ => Self::UNKNOWN,
                }
            }
        }
    };
}
vm_flags! {
    /// Readable.
    READ = 0, b"rd";
    /// Writable.
    WRITE = 1, b"wr";
    /// Executable.
    EXEC = 2, b"ex";
    /// Shared.
    SHARED = 3, b"sh";
    /// `mprotect(2)` may make it readable.
    MAY_READ = 4, b"mr";
    /// `mprotect(2)` may make it writable.
    MAY_WRITE = 5, b"mw";
    /// `mprotect(2)` may make it executable.
    MAY_EXEC = 6, b"me";
    /// Made with `MAP_SHARED`, though perhaps of a file open for reading only.
    MAY_SHARE = 7, b"ms";
    /// Grows downwards (`MAP_GROWSDOWN`).
    GROWS_DOWN = 8, b"gd";
    /// Frame numbers only, no pages behind them.
    PFN_MAP = 9, b"pf";
    /// Locked in memory.
    LOCKED = 10, b"lo";
    /// Memory of a device.
    IO = 11, b"io";
    /// `MADV_SEQUENTIAL`.
    SEQUENTIAL_READ = 12, b"sr";
    /// `MADV_RANDOM`.
    RANDOM_READ = 13, b"rr";
    /// `MADV_DONTFORK`.
    DONT_COPY = 14, b"dc";
    /// `mremap(2)` may not make it longer.
    DONT_EXPAND = 15, b"de";
    /// `mlock2(MLOCK_ONFAULT)`; older kernels print `??`.
    LOCK_ON_FAULT = 16, b"lf";
    /// Counts as committed memory.
    ACCOUNT = 17, b"ac";
    /// `MAP_NORESERVE`.
    NO_RESERVE = 18, b"nr";
    /// hugetlbfs.
    HUGETLB = 19, b"ht";
    /// `MAP_SYNC`.
    SYNC = 20, b"sf";
    /// Depends on the architecture.
    ARCH_1 = 21, b"ar";
    /// `MADV_WIPEONFORK`.
    WIPE_ON_FORK = 22, b"wf";
    /// `MADV_DONTDUMP`.
    DONT_DUMP = 23, b"dd";
    /// Guarded pages for branch targets (arm64).
    BTI = 24, b"bt";
    /// New, to soft-dirty tracking.
    SOFT_DIRTY = 25, b"sd";
    /// Pages and bare frame numbers.
    MIXED_MAP = 26, b"mm";
    /// `MADV_HUGEPAGE`.
    HUGE_PAGE = 27, b"hg";
    /// `MADV_NOHUGEPAGE`.
    NO_HUGE_PAGE = 28, b"nh";
    /// `MADV_MERGEABLE`.
    MERGEABLE = 29, b"mg";
    /// userfaultfd, missing pages.
    UFFD_MISSING = 30, b"um";
    /// userfaultfd, write protection.
    UFFD_WP = 31, b"uw";
    /// userfaultfd, minor faults.
    UFFD_MINOR = 32, b"ui";
    /// Memory tagging (arm64).
    MTE = 33, b"mt";
    /// Shadow stack.
    SHADOW_STACK = 34, b"ss";
    /// `MAP_DROPPABLE`.
    DROPPABLE = 35, b"dp";
    /// `mseal(2)`.
    SEALED = 36, b"sl";
    /// May have guard pages (`MADV_GUARD_INSTALL`).
    MAYBE_GUARD = 37, b"gu";
}
