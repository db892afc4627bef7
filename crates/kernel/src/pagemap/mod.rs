//! What is behind each page of a task: `/proc/PID/pagemap`.
//!
//! [`Pagemap::scan`] asks the kernel for ranges of pages with certain
//! properties: it costs little where little is populated.
//! [`Pagemap::own_pages`] finds as much on kernels that cannot do this, page by page.
//! [`Pagemap::entries`] gives 64 bits for each page, with the number of the
//! frame behind it.

mod entry;
mod scan;
mod walk;

pub use entry::{Frame, PageEntry, SwapSlot};
pub use scan::{Categories, PageRegion, ScanQuery};

use crate::proc::{self, Entry, ProcDir};
use crate::{Addr, Errno, HostPid};
use rustix::fs::OFlags;
use std::os::fd::OwnedFd;
use thiserror::Error;

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `PAGEMAP_SCAN`.
    Scan,
    /// To read entries.
    Read,
}

/// The pages of a task could not be looked at.
#[derive(Debug, Error)]
#[error("cannot {} the pagemap of task {pid} from {addr}", match operation {
    Operation::Scan => "scan",
    Operation::Read => "read",
})]
pub struct Error {
    /// What was tried.
    pub operation: Operation,
    /// Whose pages.
    pub pid: HostPid,
    /// The first page that was not looked at.
    pub addr: Addr,
    /// Why not. For a scan, `ENOTTY`: the kernel is older than 6.7; `EINVAL`:
    /// it does not know a category, or the range is not of whole pages;
    /// `EPERM`: pages were to be write-protected that are not registered for
    /// it.
    pub source: Errno,
}

/// `/proc/PID/pagemap`, open: it belongs to the memory the task had at that
/// time. Once the task has ended, there is nothing in it.
#[derive(Debug)]
pub struct Pagemap {
    fd: OwnedFd,
    pid: HostPid,
}

impl Pagemap {
    /// Opens it. Who may do so is settled here: frame numbers are shown if
    /// the caller has `CAP_SYS_ADMIN` now.
    ///
    /// # Errors
    ///
    /// `ESRCH` if the task has no memory, `EACCES` if it may not be traced.
    pub fn open(dir: &ProcDir) -> Result<Self, proc::Error> {
        let fd = dir.open_entry(Entry::Named("pagemap"), OFlags::RDONLY)?;
        Ok(Self { fd, pid: dir.pid() })
    }

    const fn failed(&self, operation: Operation, addr: Addr, source: Errno) -> Error {
        Error { operation, pid: self.pid, addr, source }
    }
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests;
