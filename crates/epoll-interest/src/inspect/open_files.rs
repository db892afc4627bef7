//! The open files of the calling thread, in the kernel's own memory.
//!
//! Truth from: `include/linux/{sched,fdtable,fs}.h`.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::btf::{Btf, BtfError};
use super::memory::{Address, KernelMemory, ReadError};

/// Finds what is behind descriptors. Offsets in bytes.
#[derive(Clone, Copy, Debug)]
pub struct OpenFiles {
    task_files: usize,
    files_table: usize,
    table_array: usize,
    file_private: usize,
}

impl OpenFiles {
    /// Looks the members up.
    ///
    /// # Errors
    /// The kernel's types are other ones.
    pub fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        Ok(Self {
            task_files: btf.structure("task_struct")?.offset("files")?,
            files_table: btf.structure("files_struct")?.offset("fdt")?,
            table_array: btf.structure("fdtable")?.offset("fd")?,
            file_private: btf.structure("file")?.offset("private_data")?,
        })
    }

    /// `current->files->fdt->fd[n]`, the `struct file` of each descriptor.
    ///
    /// # Errors
    /// [`ReadError::Fault`] also if another thread, which has opened a file,
    /// had the kernel move the table meanwhile: then it is worth another try.
    pub fn of(
        &self,
        memory: &mut KernelMemory,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Vec<Address>, ReadError> {
        let task = memory.current_task()?;
        let files = memory.word(task + self.task_files as u64)?;
        let table = memory.word(files + self.files_table as u64)?;
        let array = memory.word(table + self.table_array as u64)?;
        let slot = |fd: &BorrowedFd<'_>| array + 8 * u64::from(fd.as_raw_fd().unsigned_abs());
        let found = memory.words(&fds.iter().map(slot).collect::<Vec<_>>())?;
        let moved = memory.word(files + self.files_table as u64)? != table;
        if moved || found.contains(&0) { Err(ReadError::Fault) } else { Ok(found) }
    }

    /// What the kind of each file keeps for it: `private_data`.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn private_data(
        &self,
        memory: &mut KernelMemory,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Vec<Address>, ReadError> {
        let files = self.of(memory, fds)?;
        let at: Vec<_> = files.iter().map(|&file| self.private_data_at(file)).collect();
        memory.words(&at)
    }

    /// Where a `struct file` says what its kind keeps for it.
    pub(super) fn private_data_at(&self, file: Address) -> Address {
        file + self.file_private as u64
    }
}
