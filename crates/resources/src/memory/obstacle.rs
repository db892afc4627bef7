//! What keeps a mapping from being carried over.

use std::fmt;

macro_rules! obstacles {
    ($( $(#[$doc:meta])* $name:ident: $reason:literal, $hint:expr; )*) => {
        /// What keeps a mapping from being carried over.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Obstacle {
            $( $(#[$doc])* $name, )*
        }

        impl Obstacle {
            /// All there are.
            pub const ALL: &'static [Self] = &[$( Self::$name, )*];

            /// Why not.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $( Self::$name => $reason, )* }
            }

            /// What the user can do, where there is something.
            #[must_use]
            pub const fn hint(self) -> Option<&'static str> {
                match self { $( Self::$name => $hint, )* }
            }
        }
    };
}

obstacles! {
    /// `SHM_HUGETLB`.
    HugeSegment: "it is a shared memory segment (System V) of reserved huge pages",
        Some("have the program use shared memory without SHM_HUGETLB");
    /// `VM_IO` or `VM_PFNMAP`.
    Device: "it is memory of a device", None;
    /// `io_submit(2)`, and not yet complete.
    AioInFlight: "requests of its asynchronous I/O context are in flight",
        Some("dump again when its requests are done");
    /// A ring that the process has from its parent, or a part of one.
    AioForeign: "it is no whole ring of an asynchronous I/O context of the process",
        Some("let the program make its AIO contexts after it has forked");
    /// A ring that is not as the kernel writes it.
    AioOverwritten: "the program has written over the ring of its asynchronous I/O context", None;
    /// A ring, where the kernel's memory cannot be read.
    AioUnseen: "whether requests of its asynchronous I/O context are in flight cannot be seen",
        Some("run dormouse with CAP_BPF and CAP_PERFMON, or as root");
    /// What is left of a mapping of a ring of `io_uring_setup(2)` that was cut.
    PartOfRing: "it is a part of what was mapped of an io_uring",
        Some("run the program with its io_uring support switched off");
    /// `PACKET_MMAP` and the like, what is left of which was cut.
    PartOfSocket: "it is a part of what was mapped of the buffer of a socket",
        Some("let the program map and unmap it as a whole");
    /// `shmat(2)` in another IPC namespace.
    ForeignSegment: "it is a System V shared memory segment of another IPC namespace",
        Some("run dormouse inside of the namespace");
    /// `shmat(2)` of a segment, grown by `mremap(2)`.
    BeyondSegment: "it reaches beyond the end of its System V shared memory segment", None;
    /// `userfaultfd(2)`, which somebody else has.
    Userfault: "its page faults are handled by a userfaultfd that is not part of the checkpoint",
        Some("checkpoint the tree that has the userfaultfd as well");
    /// Registered, of a kind for which that is not kept.
    UserfaultKind: "its page faults are handled by a userfaultfd, and it is neither anonymous nor of a file",
        Some("have the program register other memory");
    /// Registered for faults in missing pages, and `mlock(2)`.
    UserfaultLocked: "its missing pages are handled by a userfaultfd, and it is locked, which would ask for all",
        Some("have the program lock it with MLOCK_ONFAULT");
    /// Registered, and no `PAGEMAP_SCAN`.
    UserfaultKernel: "its page faults are handled by a userfaultfd, and the kernel does not tell its pages",
        Some("Linux 6.7 tells them");
    /// Registered, and some pages are swapped out.
    UserfaultSwapped: "its page faults are handled by a userfaultfd, and of its pages that are swapped out some are \
                       missing", Some("dump again when nothing is swapped out (swapoff)");
    /// `UFFDIO_POISON`.
    UserfaultPoison: "a userfaultfd has poisoned pages of it", None;
    /// `memfd_secret(2)`.
    Secret: "it is secret memory, which nobody but the process can read", None;
    /// `pkey_mprotect(2)`.
    ProtectionKey: "it has a protection key", None;
    /// `MAP_SYNC`.
    Sync: "it is mapped with MAP_SYNC", None;
    /// A user shadow stack.
    ShadowStack: "it is a shadow stack", None;
    /// A probe is set in the program.
    Uprobes: "a uprobe is set in the program",
        Some("remove the probe (perf, bpftrace)");
    /// A private mapping of shared anonymous memory, made through `map_files`.
    PrivateShared: "it is a private mapping of shared anonymous memory that is not open any more", None;
    /// Shared anonymous memory with a name (`PR_SET_VMA_ANON_NAME`) that is
    /// open through `map_files`.
    NamedOpen: "it is shared anonymous memory with a name, and open as a file, which has none", None;
    /// `mseal(2)` for vDSO and vvar, a kernel option.
    SealedSpecial: "the kernel has sealed it, so it cannot be moved where it was", None;
    /// Something else that is not a file of a file system.
    Unknown: "it is not a kind of memory that dormouse knows", None;
    /// The kernel prints a flag that is newer than this program.
    UnknownFlag: "it has a flag that dormouse does not know", None;
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}
