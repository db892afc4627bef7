//! The memory of a ring of `io_uring(7)`, and the numbers of its calls.
//!
//! Truth from: `include/uapi/linux/io_uring.h`; `io_uring_mmap` in
//! `io_uring/memmap.c`, which has a ring mapped by whoever has it open.
#![allow(unsafe_code)]

use crate::sys::check;
use crate::{Addr, Errno, remote_memory};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

bitflags::bitflags! {
    /// `IORING_SETUP_*`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Setup: u32 {
        /// Devices are polled for completions.
        const IOPOLL = 1 << 0;
        /// A thread of the kernel's submits.
        const SQPOLL = 1 << 1;
        /// That thread is bound to a processor.
        const SQ_AFF = 1 << 2;
        /// The size of the completion queue is given.
        const CQSIZE = 1 << 3;
        /// Sizes are clamped.
        const CLAMP = 1 << 4;
        /// It shares the kernel's threads with another ring.
        const ATTACH_WQ = 1 << 5;
        /// It begins disabled.
        const R_DISABLED = 1 << 6;
        /// What follows a failed request is submitted all the same.
        const SUBMIT_ALL = 1 << 7;
        /// Completions do not interrupt the task.
        const COOP_TASKRUN = 1 << 8;
        /// A flag says that there is work for the task.
        const TASKRUN_FLAG = 1 << 9;
        /// Requests of 128 bytes.
        const SQE128 = 1 << 10;
        /// Completions of 32 bytes.
        const CQE32 = 1 << 11;
        /// One task submits.
        const SINGLE_ISSUER = 1 << 12;
        /// Completions are worked on when they are asked for.
        const DEFER_TASKRUN = 1 << 13;
        /// The rings are in the program's memory.
        const NO_MMAP = 1 << 14;
        /// There is no descriptor.
        const REGISTERED_FD_ONLY = 1 << 15;
        /// Requests are submitted in the order in which they lie.
        const NO_SQARRAY = 1 << 16;
        /// Waits for devices sleep at first.
        const HYBRID_IOPOLL = 1 << 17;
        /// Completions of 16 and of 32 bytes.
        const CQE_MIXED = 1 << 18;
    }
}

/// `IORING_OFF_CQ_RING`: another name of the place where both rings are.
pub const OFF_CQ_RING: u64 = 0x800_0000;
/// `IORING_OFF_SQES`: where requests are.
pub const OFF_SQES: u64 = 0x1000_0000;

/// `IORING_OP_NOP`.
pub const OP_NOP: u8 = 0;
/// `IORING_OP_MSG_RING`.
pub const OP_MSG_RING: u8 = 40;
/// `IOSQE_FIXED_FILE`.
pub const SQE_FIXED_FILE: u8 = 1;
/// `IOSQE_CQE_SKIP_SUCCESS`.
pub const SQE_CQE_SKIP_SUCCESS: u8 = 1 << 6;
/// `IORING_ENTER_GETEVENTS`.
pub const ENTER_GETEVENTS: u32 = 1;
/// `IORING_ENTER_REGISTERED_RING`: the ring is not named by a descriptor.
pub const ENTER_REGISTERED_RING: u32 = 1 << 4;
/// How many other names a task can have for rings (`IO_RINGFD_REG_MAX`).
pub const REGISTERED_RINGS: u32 = 16;
/// The most requests that a ring has places for (`IORING_MAX_ENTRIES`).
pub const MOST_REQUESTS: u32 = 32768;
/// The most completions (`IORING_MAX_CQ_ENTRIES`).
pub const MOST_COMPLETIONS: u32 = 2 * MOST_REQUESTS;

/// `struct io_uring_params`, as `io_uring_setup(2)` takes it and writes to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params {
    /// Places for requests.
    pub sq_entries: u32,
    /// Places for completions.
    pub cq_entries: u32,
    /// [`Setup`].
    pub flags: u32,
    /// The processor of the kernel's thread.
    pub sq_thread_cpu: u32,
    /// After how many milliseconds it sleeps.
    pub sq_thread_idle: u32,
    /// Where everything is.
    pub places: Places,
}

/// Where things are in a ring's memory, in bytes (`struct io_rings`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// How many requests were taken.
    pub sq_head: u32,
    /// How many were submitted.
    pub sq_tail: u32,
    /// What the kernel tells whoever submits.
    pub sq_flags: u32,
    /// Which request is to be taken in which place.
    pub array: u32,
    /// How many completions were read.
    pub cq_head: u32,
    /// How many were given.
    pub cq_tail: u32,
    /// The completions.
    pub completions: u32,
}

impl Params {
    /// In bytes.
    pub const LEN: usize = 120;

    /// As the kernel reads it.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let Self { sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, .. } = self;
        let mut bytes = [0; Self::LEN];
        let words = [sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// As the kernel has written it.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let (words, _) = bytes.as_chunks::<4>();
        let word = |number: usize| u32::from_ne_bytes(words[number]);
        Self {
            sq_entries: word(0),
            cq_entries: word(1),
            flags: word(2),
            sq_thread_cpu: word(3),
            sq_thread_idle: word(4),
            // `struct io_sqring_offsets` and `struct io_cqring_offsets`.
            places: Places {
                sq_head: word(10),
                sq_tail: word(11),
                sq_flags: word(14),
                array: word(16),
                cq_head: word(20),
                cq_tail: word(21),
                completions: word(25),
            },
        }
    }
}

/// A new ring of this process; `params` then say how it is.
///
/// # Errors
///
/// `EPERM`: `kernel.io_uring_disabled` forbids it; `EINVAL`: there is no such ring.
pub fn setup(params: &mut Params) -> Result<OwnedFd, Errno> {
    let mut bytes = params.to_bytes();
    // SAFETY: the parameters have the length that the kernel reads and writes.
    let ring = check(unsafe {
        libc::syscall(libc::SYS_io_uring_setup, params.sq_entries, bytes.as_mut_ptr())
    })?;
    *params = Params::from_bytes(&bytes);
    // SAFETY: the kernel has just made this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(ring as RawFd) })
}

/// Has a ring of this process take `count` requests, and says how many it has taken.
///
/// # Errors
///
/// `EBUSY`: it has no place for completions; `EAGAIN`: no memory.
pub fn submit(ring: BorrowedFd<'_>, count: u32) -> Result<u32, Errno> {
    let (none, no_set) = (0_u32, std::ptr::null::<c_void>());
    // SAFETY: no memory is passed; what requests lead to is their maker's to answer for, and only
    // those of other rings' completions are made here.
    let taken = check(unsafe {
        libc::syscall(
            libc::SYS_io_uring_enter,
            ring.as_raw_fd(),
            count,
            none,
            none,
            no_set,
            0_usize,
        )
    })?;
    Ok(taken as u32)
}

/// A part of a ring's memory, mapped into this process.
#[derive(Debug)]
pub struct Region {
    at: *mut c_void,
    len: usize,
}

impl Region {
    /// Maps the first `len` bytes of what is at `offset`.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the program has provided the memory, or nothing is there; `EFAULT`: it is shorter.
    pub fn map(ring: BorrowedFd<'_>, offset: u64, len: usize) -> Result<Self, Errno> {
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: the kernel finds the place, so nothing of ours is replaced.
        let at = unsafe { mmap(std::ptr::null_mut(), len, prot, flags, ring, offset)? };
        Ok(Self { at, len })
    }

    fn address(&self, at: usize, len: usize) -> Result<Addr, Errno> {
        let fits = at.checked_add(len).is_some_and(|end| end <= self.len);
        let address = self.at.expose_provenance() + at;
        if fits { Ok(Addr::from_raw(address as u64)) } else { Err(Errno::INVAL) }
    }

    /// Reads bytes. The kernel copies them, who may write there at the same time.
    ///
    /// # Errors
    ///
    /// `EINVAL`: they are not all in the region.
    pub fn read(&self, at: usize, bytes: &mut [u8]) -> Result<(), Errno> {
        let from = self.address(at, bytes.len())?;
        remote_memory::read_exact(crate::HostPid::of_self(), from, bytes)
            .map_err(|error| error.source)
    }

    /// Writes bytes.
    ///
    /// # Errors
    ///
    /// `EINVAL`: they are not all in the region.
    pub fn write(&self, at: usize, bytes: &[u8]) -> Result<(), Errno> {
        let to = self.address(at, bytes.len())?;
        remote_memory::write_exact(crate::HostPid::of_self(), to, bytes)
            .map_err(|error| error.source)
    }

    /// The number of 32 bits there.
    ///
    /// # Errors
    ///
    /// `EINVAL`: it is not in the region.
    pub fn number(&self, at: usize) -> Result<u32, Errno> {
        let mut bytes = [0; 4];
        self.read(at, &mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: it is ours since it was mapped, and nobody has a reference into it.
        let _ = unsafe { munmap(self.at, self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::Params;

    #[test]
    fn parameters_are_where_the_kernel_has_them() {
        let params = Params { sq_entries: 1, cq_entries: 2, flags: 3, ..Params::default() };
        let mut bytes = params.to_bytes();
        assert_eq!(Params::from_bytes(&bytes), params);
        // 40 bytes, then `sq_off` with `array` behind six numbers, then `cq_off`.
        bytes[64..68].copy_from_slice(&7_u32.to_ne_bytes());
        bytes[100..104].copy_from_slice(&8_u32.to_ne_bytes());
        let places = Params::from_bytes(&bytes).places;
        assert_eq!((places.array, places.completions), (7, 8));
    }
}
