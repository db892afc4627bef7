//! The open files of the calling thread, in the kernel's own memory.
//!
//! Truth from: `include/linux/{sched,fdtable,fs}.h`.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::btf::{Btf, BtfError};
use super::memory::{Address, KernelMemory, ReadError, u64_at};
use super::tasks::Table;

/// More numbers than any table has (`sysctl_nr_open_max`, `fs/file.c`).
const MOST: u32 = i32::MAX as u32;

/// Finds what is behind descriptors. Offsets in bytes.
#[derive(Clone, Copy, Debug)]
pub struct OpenFiles {
    task_files: usize,
    files_users: usize,
    files_table: usize,
    table_array: usize,
    table_len: usize,
    table_close_on_exec: usize,
    file_private: usize,
}

impl OpenFiles {
    /// Looks the members up.
    ///
    /// # Errors
    /// The kernel's types are other ones.
    pub fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let (files, table) = (btf.structure("files_struct")?, btf.structure("fdtable")?);
        Ok(Self {
            task_files: btf.structure("task_struct")?.offset("files")?,
            files_users: files.offset("count")?,
            files_table: files.offset("fdt")?,
            table_array: table.offset("fd")?,
            table_len: table.offset("max_fds")?,
            table_close_on_exec: table.offset("close_on_exec")?,
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

    /// The `struct file` that a number stands for in the table that a task uses, for each of some; 0 if
    /// it stands for none.
    ///
    /// # Errors
    /// As [`KernelMemory::read`], also if a task has ended, or its table was moved meanwhile.
    pub fn behind(
        &self,
        memory: &mut KernelMemory,
        numbers: &[(Address, u32)],
    ) -> Result<Vec<Address>, ReadError> {
        let tasks: Vec<_> = numbers.iter().map(|&(task, _)| task).collect();
        let files = memory.words_behind(&tasks, self.task_files)?;
        let tables = memory.words_behind(&files, self.files_table)?;
        let arrays = memory.words_behind(&tables, self.table_array)?;
        let lens = memory.words_behind(&tables, self.table_len)?;
        let places = numbers.iter().zip(arrays.iter().zip(lens));
        let slots: Vec<_> = places
            .map(|(&(_, number), (array, len))| {
                (number < len as u32).then(|| array + 8 * u64::from(number))
            })
            .collect();
        let there: Vec<_> = slots.iter().copied().flatten().collect();
        let mut found = memory.words(&there)?.into_iter();
        let found = slots.iter().map(|slot| slot.and_then(|_| found.next()).unwrap_or(0)).collect();
        let moved = memory.words_behind(&files, self.files_table)? != tables;
        if moved { Err(ReadError::Fault) } else { Ok(found) }
    }

    /// What the kind of each `struct file` keeps for it.
    ///
    /// # Errors
    /// As [`KernelMemory::read`].
    pub fn kept_for(
        &self,
        memory: &mut KernelMemory,
        files: &[Address],
    ) -> Result<Vec<Address>, ReadError> {
        memory.words_behind(files, self.file_private)
    }

    /// All of the fd table that a task uses.
    pub(super) fn table(
        &self,
        memory: &mut KernelMemory,
        task: Address,
    ) -> Result<Table, ReadError> {
        let files = memory.word(task + self.task_files as u64)?;
        let table = memory.word(files + self.files_table as u64)?;
        let array = memory.word(table + self.table_array as u64)?;
        let close_on_exec = memory.word(table + self.table_close_on_exec as u64)?;
        let len = memory.word(table + self.table_len as u64)? as u32;
        if len > MOST {
            return Err(ReadError::Fault);
        }
        // It is a multiple of 64 (`alloc_fdtable`).
        let len = len as usize / 64 * 64;
        let words =
            |bytes: Vec<u8>| (0..bytes.len()).step_by(8).map(|at| u64_at(&bytes, at)).collect();
        Ok(Table {
            users: memory.word(files + self.files_users as u64)? as u32,
            files: words(memory.bytes(array, len * 8)?),
            close_on_exec: words(memory.bytes(close_on_exec, len / 8)?),
        })
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
