//! The kernel stacks of tasks that sleep.
//!
//! - Kernel object: `task_struct.stack`
//! - Truth from: `include/linux/sched.h`; `THREAD_SIZE` of x86_64

use epoll_interest::kernel_memory::{Address, Btf, BtfError, KernelMemory, ReadError};

/// `THREAD_SIZE` of x86_64, in bytes.
pub(super) const STACK: u64 = 16 << 10;
/// What is read at one address, in bytes.
const PIECE: u64 = 256;
/// Where the kernel's own code is mapped from.
pub(super) const KERNEL_TEXT: Address = 0xffff_ffff_8000_0000;
/// Where the kernel's half of all addresses begins.
pub(super) const KERNEL: Address = 0xffff_8000_0000_0000;

/// Offsets in bytes.
#[derive(Clone, Copy)]
pub(super) struct Stacks {
    stack: usize,
    pointer: usize,
}

impl Stacks {
    /// Looks them up.
    pub(super) fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let task = btf.structure("task_struct")?;
        let (thread_at, thread) = task.member("thread")?;
        Ok(Self { stack: task.offset("stack")?, pointer: thread_at + thread.offset("sp")? })
    }

    /// Where the stacks of some tasks begin.
    pub(super) fn bottoms(
        self,
        memory: &mut KernelMemory,
        tasks: &[Address],
    ) -> Result<Vec<Address>, ReadError> {
        memory.words_behind(tasks, self.stack)
    }

    /// The part of a sleeping task's stack that is in use, and where that begins.
    pub(super) fn live(
        self,
        memory: &mut KernelMemory,
        task: Address,
    ) -> Result<(Address, Vec<u8>), ReadError> {
        let bottom = memory.word(task + self.stack as u64)?;
        let pointer = memory.word(task + self.pointer as u64)?;
        if !(bottom..bottom + STACK).contains(&pointer) {
            return Ok((bottom, Vec::new()));
        }
        let skipped = (pointer - bottom) / PIECE * PIECE;
        let pieces: Vec<_> =
            (skipped..STACK).step_by(PIECE as usize).map(|offset| bottom + offset).collect();
        let mut stack = memory.read(&pieces, PIECE as usize)?;
        let unused = (pointer - bottom - skipped) / 8 * 8;
        stack.drain(..unused as usize);
        Ok((bottom + skipped + unused, stack))
    }
}
