//! The rings of a packet socket (`PACKET_RX_RING`, `PACKET_TX_RING`), mapped here.
//!
//! # Safety
//! The kernel and other processes write to this memory at any time. So there is never
//! a reference to it: bytes are copied in and out, within bounds that are checked.
#![allow(unsafe_code)]

use crate::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// Both rings, the one that receives first.
#[derive(Debug)]
pub struct MappedRings {
    start: NonNull<u8>,
    len: usize,
}

impl MappedRings {
    /// Maps them; `len` is what both take, in bytes.
    ///
    /// # Errors
    /// `EINVAL`: the socket has none, or they take another number of bytes.
    pub fn map(socket: impl AsFd, len: usize) -> Result<Self, Errno> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel finds the place, so nothing of ours is replaced.
        let mapped = unsafe { mmap(std::ptr::null_mut(), len, prot, MapFlags::SHARED, socket, 0)? };
        Ok(Self { start: NonNull::new(mapped.cast()).ok_or(Errno::NOMEM)?, len })
    }

    /// Where so many bytes are.
    fn at(&self, offset: usize, len: usize) -> Result<*mut u8, Errno> {
        match offset.checked_add(len) {
            // SAFETY: it is within what was mapped.
            Some(end) if end <= self.len => Ok(unsafe { self.start.as_ptr().add(offset) }),
            _ => Err(Errno::RANGE),
        }
    }

    /// Bytes, as they are at this moment.
    ///
    /// # Errors
    /// `ERANGE`: they are beyond the end.
    pub fn bytes(&self, offset: usize, len: usize) -> Result<Vec<u8>, Errno> {
        let from = self.at(offset, len)?;
        let mut bytes = vec![0; len];
        // SAFETY: `len` bytes are there, of memory that lasts as long as `self`; nobody has
        // a reference to it.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), len) };
        Ok(bytes)
    }

    /// A number of 32 bits.
    ///
    /// # Errors
    /// `ERANGE`: it is beyond the end; `EINVAL`: not where a number may be.
    pub fn number(&self, offset: usize) -> Result<u32, Errno> {
        let from = self.at(offset, size_of::<u32>())?.cast::<u32>();
        if !from.is_aligned() {
            return Err(Errno::INVAL);
        }
        // SAFETY: as above, and it is aligned.
        Ok(unsafe { from.read_volatile() })
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// `ERANGE`: there is no room for them.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Errno> {
        let to = self.at(offset, bytes.len())?;
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        Ok(())
    }
}

impl Drop for MappedRings {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nobody has a reference to it. It cannot
        // fail.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::MappedRings;
    use crate::Errno;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    #[test]
    fn what_is_beyond_the_end_is_not_touched() {
        let file = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, 4096).unwrap();
        let rings = MappedRings::map(&file, 4096).unwrap();
        rings.write(4092, &[1, 0, 0, 0]).unwrap();
        assert_eq!(rings.number(4092), Ok(1));
        assert_eq!(rings.bytes(4090, 4), Ok(vec![0, 0, 1, 0]));
        assert_eq!(rings.write(4093, &[0; 4]), Err(Errno::RANGE));
        assert_eq!(rings.number(usize::MAX), Err(Errno::RANGE));
        assert_eq!(rings.number(1), Err(Errno::INVAL));
    }
}
