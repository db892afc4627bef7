//! The memory of another task.
//!
//! Two ways lead there. [`read`] and [`write`] (`process_vm_readv(2)`) move
//! many pieces in one call and keep to the task's own protection; [`Mem`]
//! (`/proc/PID/mem`) ignores protection, as ptrace does: it writes to
//! read-only private pages, which become copies.
//!
//! Both work on a task by its number or at its current memory: they are for
//! tasks that the caller has stopped.
#![allow(unsafe_code)]

use crate::proc::{self, Entry, ProcDir};
use crate::sys::check;
use crate::{Addr, AddrRange, Errno, HostPid, PAGE_SIZE};
use rustix::fs::OFlags;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use thiserror::Error;

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// To read.
    Read,
    /// To write.
    Write,
}

/// Memory of another task could not be moved.
#[derive(Debug, Error)]
#[error("cannot {} the memory of task {pid} at {addr}", match operation {
    Operation::Read => "read",
    Operation::Write => "write",
})]
pub struct Error {
    /// What was tried.
    pub operation: Operation,
    /// Whose memory.
    pub pid: HostPid,
    /// The first byte that was not moved.
    pub addr: Addr,
    /// Why not. `EFAULT` (`EIO` from [`Mem`]): nothing is mapped there, or
    /// what is cannot be had; `ESRCH`: the task is gone; `EPERM`: it may not
    /// be traced.
    pub source: Errno,
}

/// How many pieces one call takes on either side (`UIO_MAXIOV`). More are no
/// error of [`read`] and [`write`], but not moved.
pub const MAX_PIECES: usize = 1024;

/// A piece of another task's memory, with the layout of `struct iovec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct RemotePiece {
    base: u64,
    len: u64,
}

const _: () = assert!(size_of::<RemotePiece>() == size_of::<libc::iovec>());

/// Reads from `remote` to `local`, filling one piece after the other on
/// either side, and returns how many bytes were moved.
///
/// That is less than asked for if one side has less room than the other, if
/// there are more than [`MAX_PIECES`], or if a page could not be read: then
/// all before it was moved. (The kernel may then have moved part of
/// the piece; manual pages that speak of whole pieces are wrong, see
/// `process_vm_rw_core` in `mm/process_vm_access.c`.)
///
/// # Errors
///
/// If not a single byte could be moved, [`Error`] with the start of `remote`.
pub fn read(
    pid: HostPid,
    remote: &[AddrRange],
    local: &mut [IoSliceMut<'_>],
) -> Result<usize, Error> {
    let pieces: Vec<_> = remote.iter().take(MAX_PIECES).map(piece).collect();
    // SAFETY: `IoSliceMut` is guaranteed to have the layout of `iovec`, and
    // `RemotePiece` was checked to. The kernel writes only where the slices
    // of `local` allow, which are borrowed for writing. What `remote` says is
    // checked by the kernel against the other task.
    let moved = check(unsafe {
        libc::process_vm_readv(
            pid.as_raw(),
            local.as_ptr().cast(),
            local.len().min(MAX_PIECES) as u64,
            pieces.as_ptr().cast(),
            pieces.len() as u64,
            0,
        )
    } as libc::c_long);
    finish(moved, Operation::Read, pid, remote)
}

/// Writes from `local` to `remote`; otherwise as [`read`]. Pages the task
/// cannot write to itself are not written.
///
/// # Errors
///
/// As [`read`].
pub fn write(pid: HostPid, remote: &[AddrRange], local: &[IoSlice<'_>]) -> Result<usize, Error> {
    let pieces: Vec<_> = remote.iter().take(MAX_PIECES).map(piece).collect();
    // SAFETY: as in `read`; the kernel only reads from `local`.
    let moved = check(unsafe {
        libc::process_vm_writev(
            pid.as_raw(),
            local.as_ptr().cast(),
            local.len().min(MAX_PIECES) as u64,
            pieces.as_ptr().cast(),
            pieces.len() as u64,
            0,
        )
    } as libc::c_long);
    finish(moved, Operation::Write, pid, remote)
}

fn piece(range: &AddrRange) -> RemotePiece {
    RemotePiece { base: range.start().as_raw(), len: range.len() }
}

fn finish(
    moved: Result<u64, Errno>,
    operation: Operation,
    pid: HostPid,
    remote: &[AddrRange],
) -> Result<usize, Error> {
    match moved {
        Ok(bytes) => Ok(usize::try_from(bytes).expect("no more than the slices hold")),
        Err(source) => {
            let addr = remote.first().map_or(Addr::NULL, |range| range.start());
            Err(Error { operation, pid, addr, source })
        }
    }
}

/// Fills `local` from `addr` on.
///
/// # Errors
///
/// Less than all could be read: [`Error`] with the first byte that was not.
pub fn read_exact(pid: HostPid, addr: Addr, local: &mut [u8]) -> Result<(), Error> {
    let mut done = 0;
    while done < local.len() {
        let rest = &mut local[done..];
        let range = rest_of(Operation::Read, pid, addr, done, rest.len())?;
        done += nonzero(
            read(pid, &[range], &mut [IoSliceMut::new(rest)])?,
            Operation::Read,
            pid,
            range.start(),
        )?;
    }
    Ok(())
}

/// Writes all of `local` from `addr` on.
///
/// # Errors
///
/// Less than all could be written: [`Error`] with the first byte that was
/// not.
pub fn write_exact(pid: HostPid, addr: Addr, local: &[u8]) -> Result<(), Error> {
    let mut done = 0;
    while done < local.len() {
        let rest = &local[done..];
        let range = rest_of(Operation::Write, pid, addr, done, rest.len())?;
        done += nonzero(
            write(pid, &[range], &[IoSlice::new(rest)])?,
            Operation::Write,
            pid,
            range.start(),
        )?;
    }
    Ok(())
}

/// Reads all of `ranges`, which start and end at pages, one behind the other
/// into `local`; pages that cannot be read (nothing is mapped there any more,
/// a file ends before them, their medium failed) are zeros there, and
/// returned, in order.
///
/// # Errors
///
/// Any but `EFAULT`.
///
/// # Panics
///
/// If a range does not start and end at a page, or `local` is not exactly as
/// long as all ranges.
pub fn read_pages(
    pid: HostPid,
    ranges: &[AddrRange],
    local: &mut [u8],
) -> Result<Vec<AddrRange>, Error> {
    let aligned =
        |range: &AddrRange| range.start().is_page_aligned() && range.end().is_page_aligned();
    assert!(ranges.iter().all(aligned), "ranges of whole pages");
    let total: u64 = ranges.iter().map(|range| range.len()).sum();
    assert_eq!(local.len() as u64, total, "room for all pages");

    let mut holes: Vec<AddrRange> = Vec::new();
    let mut position = Position { ranges, offset: 0 };
    let mut local = local;
    while !position.ranges.is_empty() {
        let batch = position.batch();
        let moved = match read(pid, &batch, &mut [IoSliceMut::new(local)]) {
            Ok(moved) => moved as u64,
            Err(Error { source: Errno::FAULT, .. }) => 0,
            Err(error) => return Err(error),
        };
        // The kernel goes page by page, so it never stops inside of one.
        let passed = if moved == 0 {
            let page = AddrRange::with_len(batch[0].start(), PAGE_SIZE);
            let page = page.expect("a page lies below the end of its range");
            match holes.last_mut().filter(|hole| hole.end() == page.start()) {
                Some(hole) => {
                    *hole = AddrRange::new(hole.start(), page.end()).expect("the page comes next");
                }
                None => holes.push(page),
            }
            let (hole, _) = local.split_at_mut(PAGE_SIZE as usize);
            hole.fill(0);
            PAGE_SIZE
        } else {
            moved
        };
        position.advance(passed);
        local = &mut std::mem::take(&mut local)[passed as usize..];
    }
    Ok(holes)
}

/// How far [`read_pages`] has come: `offset` bytes into the first of `ranges`.
struct Position<'a> {
    ranges: &'a [AddrRange],
    offset: u64,
}

impl Position<'_> {
    /// What one call may be asked for. The kernel moves a little less than
    /// 2 GiB at most.
    fn batch(&self) -> Vec<AddrRange> {
        const MAX_BYTES: u64 = 1 << 30;
        let mut batch = Vec::with_capacity(self.ranges.len().min(MAX_PIECES));
        let (mut offset, mut bytes) = (self.offset, 0);
        for range in self.ranges.iter().take(MAX_PIECES) {
            let len = (range.len() - offset).min(MAX_BYTES - bytes);
            let start = range.start().checked_add(offset).expect("inside of the range");
            batch.push(AddrRange::with_len(start, len).expect("inside of the range"));
            bytes += len;
            offset = 0;
            if bytes == MAX_BYTES {
                break;
            }
        }
        batch
    }

    fn advance(&mut self, bytes: u64) {
        self.offset += bytes;
        while let Some((first, rest)) = self.ranges.split_first()
            && self.offset >= first.len()
        {
            self.offset -= first.len();
            self.ranges = rest;
        }
    }
}

fn rest_of(
    operation: Operation,
    pid: HostPid,
    addr: Addr,
    done: usize,
    len: usize,
) -> Result<AddrRange, Error> {
    addr.checked_add(done as u64)
        .and_then(|start| AddrRange::with_len(start, len as u64))
        .ok_or(Error { operation, pid, addr, source: Errno::FAULT })
}

/// The kernel says 0 only when asked for nothing.
fn nonzero(moved: usize, operation: Operation, pid: HostPid, addr: Addr) -> Result<usize, Error> {
    if moved == 0 { Err(Error { operation, pid, addr, source: Errno::FAULT }) } else { Ok(moved) }
}

/// `/proc/PID/mem`, open: the memory the task had at that time. If it runs
/// another program since, there is nothing left in it.
#[derive(Debug)]
pub struct Mem {
    fd: OwnedFd,
    pid: HostPid,
}

impl Mem {
    /// Opens it for reading and writing.
    ///
    /// # Errors
    ///
    /// `ESRCH` if the task has no memory, `EACCES` if it may not be traced.
    pub fn open(dir: &ProcDir) -> Result<Self, proc::Error> {
        let fd = dir.open_entry(Entry::Named("mem"), OFlags::RDWR)?;
        Ok(Self { fd, pid: dir.pid() })
    }

    /// Whose memory it is.
    #[must_use]
    pub const fn pid(&self) -> HostPid {
        self.pid
    }

    /// Fills `local` from `addr` on, whatever the protection there.
    ///
    /// # Errors
    ///
    /// Less than all could be read: [`Error`] with the first byte that was
    /// not; `EIO`: nothing is mapped there; `ESRCH`: the memory is gone.
    pub fn read_exact(&self, addr: Addr, local: &mut [u8]) -> Result<(), Error> {
        let mut done = 0;
        while done < local.len() {
            let rest = &mut local[done..];
            let at = rest_of(Operation::Read, self.pid, addr, done, rest.len())?.start();
            done +=
                self.moved(Operation::Read, at, rustix::io::pread(&self.fd, rest, at.as_raw()))?;
        }
        Ok(())
    }

    /// Writes all of `local` from `addr` on, whatever the protection there.
    ///
    /// # Errors
    ///
    /// As for reading; `EIO` also for a shared mapping the task may not write
    /// to.
    pub fn write_exact(&self, addr: Addr, local: &[u8]) -> Result<(), Error> {
        let mut done = 0;
        while done < local.len() {
            let rest = &local[done..];
            let at = rest_of(Operation::Write, self.pid, addr, done, rest.len())?.start();
            done +=
                self.moved(Operation::Write, at, rustix::io::pwrite(&self.fd, rest, at.as_raw()))?;
        }
        Ok(())
    }

    fn moved(
        &self,
        operation: Operation,
        addr: Addr,
        moved: Result<usize, Errno>,
    ) -> Result<usize, Error> {
        let failed = |source| Error { operation, pid: self.pid, addr, source };
        match moved {
            // The kernel says so once the memory has no user left.
            Ok(0) => Err(failed(Errno::SRCH)),
            Ok(moved) => Ok(moved),
            Err(Errno::INTR) => Ok(0),
            Err(source) => Err(failed(source)),
        }
    }
}

#[cfg(test)]
mod tests;
