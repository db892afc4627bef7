//! Tasks in the kernel's own memory.
//!
//! Truth from: `include/linux/{pid,sched}.h`, `pidfd_pid` (`fs/pidfs.c`;
//! `kernel/fork.c` before 6.9).

use std::os::fd::BorrowedFd;

use super::btf::{Btf, BtfError};
use super::memory::{Address, KernelMemory, ReadError};
use super::open_files::OpenFiles;

/// Finds what is behind pidfds. Offsets in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Tasks {
    files: OpenFiles,
    file_private: usize,
    file_inode: usize,
    inode_private: usize,
    pid_tasks: usize,
    task_links: usize,
}

impl Tasks {
    /// Looks the members up.
    ///
    /// # Errors
    /// The kernel's types are other ones.
    pub fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let file = btf.structure("file")?;
        Ok(Self {
            files: OpenFiles::new(btf)?,
            file_private: file.offset("private_data")?,
            file_inode: file.offset("f_inode")?,
            inode_private: btf.structure("inode")?.offset("i_private")?,
            pid_tasks: btf.structure("pid")?.offset("tasks")?,
            task_links: btf.structure("task_struct")?.offset("pid_links")?,
        })
    }

    /// The `struct task_struct` behind a pidfd.
    ///
    /// # Errors
    /// [`ReadError::Fault`] also if the task has been reaped.
    pub fn of(
        &self,
        memory: &mut KernelMemory,
        pidfd: BorrowedFd<'_>,
    ) -> Result<Address, ReadError> {
        let file = self.files.of(memory, &[pidfd])?[0];
        self.of_file(memory, file)
    }

    /// The same for the `struct file` of a pidfd.
    pub(super) fn of_file(
        &self,
        memory: &mut KernelMemory,
        pidfd: Address,
    ) -> Result<Address, ReadError> {
        let mut pid = memory.word(pidfd + self.file_private as u64)?;
        if pid == 0 {
            // Since 6.9 it is the inode that says whose pidfd it is.
            let inode = memory.word(pidfd + self.file_inode as u64)?;
            pid = memory.word(inode + self.inode_private as u64)?;
        }
        // The first of `enum pid_type`, in both arrays.
        let link = memory.word(pid + self.pid_tasks as u64)?;
        link.checked_sub(self.task_links as u64).ok_or(ReadError::Fault)
    }

    /// The fd table that a task uses. It is to stand still.
    ///
    /// # Errors
    /// As [`KernelMemory::read`].
    pub fn table(&self, memory: &mut KernelMemory, task: Address) -> Result<Table, ReadError> {
        self.files.table(memory, task)
    }
}

/// An fd table. (`include/linux/fdtable.h`)
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// How many tasks use it.
    pub users: u32,
    /// The `struct file` of each number, 0 where there is none.
    pub files: Vec<Address>,
    /// A bit for each number: whether it is closed by `execve(2)`.
    pub(super) close_on_exec: Vec<u64>,
}

impl Table {
    /// Whether a number is closed by `execve(2)`.
    #[must_use]
    pub fn closes_on_exec(&self, fd: usize) -> bool {
        self.close_on_exec.get(fd / 64).is_some_and(|bits| bits >> (fd % 64) & 1 == 1)
    }
}
