//! CRIU's messages, one file for each subject.
//!
//! The names, numbers and types are CRIU's (`images/*.proto`), so that each reads what the other
//! writes. Where this model differs, it says so:
//!
//! * Strings are bytes. What the kernel hands out as a path or a name need not be UTF-8, and
//!   CRIU's reader does not ask for it; on the wire the two are the same.
//! * A field called `type` is called `kind` here.
//! * Numbers in repeated fields are written one by one, not packed, as CRIU does; both forms are
//!   read.
//! * A required field that is missing reads as zero (or its default), which is no more than an
//!   image can say anyway. The rooms judge values; nothing here does.
//! * Fields nobody names here are skipped.
//!
//! # What CRIU cannot express
//!
//! Field numbers from [`FIRST_OWN_FIELD`] on are Dormouse's own. CRIU's reader (protobuf-c) keeps
//! unknown fields aside and carries on; `crit` drops them. So such a field may add what CRIU would
//! lose anyway, but must never change the meaning of a field CRIU reads. Their docs begin with
//! "Dormouse:".
//!
//! Fields whose name says all there is to say carry no doc.
#![allow(missing_docs)]

pub mod apparmor;
pub mod cgroup;
pub mod core;
pub mod cpuinfo;
pub mod creds;
pub mod file_lock;
pub mod files;
pub mod fs;
pub mod inventory;
pub mod keys;
pub mod mm;
pub mod namespace;
pub mod pagemap;
pub mod pstree;
pub mod seccomp;
pub mod signal;
pub mod stats;
pub mod timer;

/// The first field number CRIU will not use: from here on they are ours.
pub const FIRST_OWN_FIELD: u32 = 20_000;

/// Values of [`TaskCoreEntry::task_state`](core::TaskCoreEntry::task_state).
pub mod task_state {
    /// Runs or sleeps.
    pub const ALIVE: u32 = 1;
    /// A zombie, its `exit_code` not yet fetched.
    pub const DEAD: u32 = 2;
    /// Stopped by a signal.
    pub const STOPPED: u32 = 3;
    /// A zombie, in images of some versions.
    pub const ZOMBIE: u32 = 6;
}

/// Bits of [`VmaEntry::status`](mm::VmaEntry::status): what a mapping is. Bits 27 to 31 are CRIU's
/// own working state and are not in an image (except 27).
pub mod vma_status {
    /// Restored as an ordinary mapping.
    pub const REGULAR: u32 = 1 << 0;
    /// Unused by today's CRIU.
    pub const STACK: u32 = 1 << 1;
    /// The fixed vsyscall page; nothing to restore.
    pub const VSYSCALL: u32 = 1 << 2;
    /// The vDSO.
    pub const VDSO: u32 = 1 << 3;
    /// The heap; information only.
    pub const HEAP: u32 = 1 << 5;
    /// A private mapping of a file.
    pub const FILE_PRIVATE: u32 = 1 << 6;
    /// A shared mapping of a file.
    pub const FILE_SHARED: u32 = 1 << 7;
    /// Shared anonymous memory.
    pub const ANON_SHARED: u32 = 1 << 8;
    /// Private anonymous memory.
    pub const ANON_PRIVATE: u32 = 1 << 9;
    /// An attached System V segment.
    pub const SYSVIPC: u32 = 1 << 10;
    /// A mapped socket ring.
    pub const SOCKET: u32 = 1 << 11;
    /// The data pages of the vDSO.
    pub const VVAR: u32 = 1 << 12;
    /// The ring of an AIO context.
    pub const AIO_RING: u32 = 1 << 13;
    /// A mapping of a memfd.
    pub const MEMFD: u32 = 1 << 14;
    /// A shadow stack.
    pub const SHADOW_STACK: u32 = 1 << 15;
    /// Not a mapping: a range of guard pages (`MADV_GUARD_INSTALL`). These come last.
    pub const GUARD: u32 = 1 << 16;
    /// The kernel's `[uprobes]` page; nothing to restore.
    pub const UPROBES: u32 = 1 << 17;
    /// A CRIU plugin looks after it.
    pub const EXT_PLUGIN: u32 = 1 << 27;
}

/// Bits of [`VmaEntry::extra`](mm::VmaEntry::extra).
pub mod vma_extra {
    /// Counts as committed memory (`VM_ACCOUNT`).
    pub const ACCOUNTED: u32 = 1 << 0;
    /// Locked page by page as they are touched (`MLOCK_ONFAULT`).
    pub const LOCK_ON_FAULT: u32 = 1 << 1;
    /// Sealed by mseal(2).
    pub const SEALED: u32 = 1 << 2;
    /// Memory of an io_uring.
    pub const IO_URING: u32 = 1 << 3;
    /// Of a memfd open for reading and writing, but sealed against writing when it was mapped.
    pub const WRITE_SEALED: u32 = 1 << 4;
    /// Registered with a userfaultfd.
    pub const USERFAULT: u32 = 1 << 5;
}
