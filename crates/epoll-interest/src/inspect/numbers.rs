//! The numbers of tasks in the kernel's own memory.
//!
//! Truth from: `include/linux/pid.h`, `task_pid_vnr` (`kernel/pid.c`).

use super::btf::{Btf, BtfError};
use super::memory::{Address, KernelMemory, ReadError};

/// Finds them. Offsets in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    task_pid: usize,
    pid_level: usize,
    pid_numbers: usize,
    number_size: usize,
    number: usize,
    namespace: usize,
}

impl Numbers {
    /// Looks the members up.
    ///
    /// # Errors
    /// The kernel's types are other ones.
    pub fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let (pid, number) = (btf.structure("pid")?, btf.structure("upid")?);
        Ok(Self {
            task_pid: btf.structure("task_struct")?.offset("thread_pid")?,
            pid_level: pid.offset("level")?,
            pid_numbers: pid.offset("numbers")?,
            number_size: number.size(),
            number: number.offset("nr")?,
            namespace: number.offset("ns")?,
        })
    }

    /// The `struct pid` of each of some `struct task_struct`; 0 of one that has been reaped.
    ///
    /// # Errors
    /// As [`KernelMemory::read`].
    pub fn pids(
        &self,
        memory: &mut KernelMemory,
        tasks: &[Address],
    ) -> Result<Vec<Address>, ReadError> {
        memory.words_behind(tasks, self.task_pid)
    }

    /// The numbers that some `struct pid` have in the pid namespace of the calling thread, in
    /// which they are.
    ///
    /// # Errors
    /// As [`KernelMemory::read`].
    pub fn of(&self, memory: &mut KernelMemory, pids: &[Address]) -> Result<Vec<i32>, ReadError> {
        let (_, _, place) = self.own(memory)?;
        let numbers = memory.words_behind(pids, place + self.number)?;
        Ok(numbers.into_iter().map(|word| (word as u32).cast_signed()).collect())
    }

    /// The same for one that may be in another; `None`: it has no number here.
    ///
    /// # Errors
    /// As [`KernelMemory::read`].
    pub fn seen(&self, memory: &mut KernelMemory, pid: Address) -> Result<Option<i32>, ReadError> {
        let (own, level, place) = self.own(memory)?;
        let namespace = (place + self.namespace) as u64;
        if (memory.word(pid + self.pid_level as u64)? as u32) < level
            || memory.word(pid + namespace)? != memory.word(own + namespace)?
        {
            return Ok(None);
        }
        let number = memory.word(pid + (place + self.number) as u64)?;
        Ok(Some((number as u32).cast_signed()))
    }

    /// The `struct pid` of the calling thread, how deep its namespace is, and where a `struct pid`
    /// has its number in that.
    fn own(&self, memory: &mut KernelMemory) -> Result<(Address, u32, usize), ReadError> {
        let own = memory.current_task()?;
        let own = memory.word(own + self.task_pid as u64)?;
        let level = memory.word(own + self.pid_level as u64)? as u32;
        Ok((own, level, self.pid_numbers + level as usize * self.number_size))
    }
}
