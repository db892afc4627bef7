//! A userfaultfd in the kernel's own memory.

use std::os::fd::BorrowedFd;

use dormouse_kernel::HostPid;
use epoll_interest::kernel_memory::{
    Btf, BtfError, KernelMemory, Numbers, OpenError, OpenFiles, ReadError,
};

/// Reads them.
pub(super) struct Inside {
    memory: KernelMemory,
    layout: Layout,
}

/// What is found there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Flags that it was made with.
    pub(super) flags: u32,
    pub(super) memory: Memory,
}

/// Whose memory it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// A task that has it. `None`: it has no number in this process's namespace.
    Of(Option<HostPid>),
    /// Nobody's any more.
    Gone,
}

/// Offsets in bytes.
struct Layout {
    files: OpenFiles,
    numbers: Numbers,
    memory: usize,
    flags: usize,
    owner: usize,
}

impl Layout {
    fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let context = btf.structure("userfaultfd_ctx")?;
        Ok(Self {
            files: OpenFiles::new(btf)?,
            numbers: Numbers::new(btf)?,
            memory: context.offset("mm")?,
            flags: context.offset("flags")?,
            owner: btf.structure("mm_struct")?.offset("owner")?,
        })
    }
}

impl Inside {
    pub(super) fn open() -> Result<Self, OpenError> {
        let (memory, layout) = KernelMemory::open(Layout::new)?;
        Ok(Self { memory, layout })
    }

    /// The one behind a descriptor of this process.
    pub(super) fn read(&mut self, file: BorrowedFd<'_>) -> Result<Found, ReadError> {
        let Self { memory, layout } = self;
        let context = layout.files.private_data(memory, &[file])?[0];
        let flags = memory.word(context + layout.flags as u64)? as u32;
        let space = memory.word(context + layout.memory as u64)?;
        // Who has the memory hands this on when it ends, and the last takes it away
        // (`mm_update_next_owner` in `kernel/exit.c`).
        let memory = match memory.word(space + layout.owner as u64)? {
            0 => Memory::Gone,
            task => match layout.numbers.pids(memory, &[task])?[0] {
                0 => Memory::Of(None),
                pid => Memory::Of(layout.numbers.seen(memory, pid)?.and_then(HostPid::from_raw)),
            },
        };
        Ok(Found { flags, memory })
    }
}
