//! The bytes of the kernel's own type information.
//!
//! Truth from: `btf_sysfs_vmlinux_mmap`, `kernel/bpf/sysfs_btf.c`. They are
//! some megabytes, which sysfs gives a page at a time; Linux 6.16 and later
//! let them be mapped.
//!
//! # Safety
//! The mapping is private and read-only, of memory that the kernel never
//! changes, and unmapped only when its owner is dropped; what is lent of it
//! cannot outlive that.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs::File;
use std::io::{self, Read as _};
use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::btf::{Btf, BtfError};

/// Where it is.
pub(super) const PATH: &str = "/sys/kernel/btf/vmlinux";

/// The kernel's own type information.
#[derive(Debug)]
pub struct TypeInformation(Bytes);

#[derive(Debug)]
enum Bytes {
    Mapped { start: NonNull<c_void>, len: usize },
    Read(Vec<u8>),
}

impl TypeInformation {
    /// Reads `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    /// The kernel was built without `CONFIG_DEBUG_INFO_BTF`, or sysfs is not
    /// mounted.
    pub fn open() -> io::Result<Self> {
        let mut file = File::open(PATH)?;
        let len = usize::try_from(file.metadata()?.len()).unwrap_or(0);
        // SAFETY: nothing that is mapped is replaced, and the file is not one
        // that can shrink.
        let mapped =
            unsafe { mmap(ptr::null_mut(), len, ProtFlags::READ, MapFlags::PRIVATE, &file, 0) };
        if let Some(start) = mapped.ok().and_then(NonNull::new) {
            return Ok(Self(Bytes::Mapped { start, len }));
        }
        let mut bytes = Vec::with_capacity(len);
        file.read_to_end(&mut bytes)?;
        Ok(Self(Bytes::Read(bytes)))
    }

    /// Finds the types in it.
    ///
    /// # Errors
    /// As [`Btf::parse`].
    pub fn parse(&self) -> Result<Btf<'_>, BtfError> {
        Btf::parse(match &self.0 {
            // SAFETY: mapped for as long as `self` is there, and never written.
            Bytes::Mapped { start, len } => unsafe {
                std::slice::from_raw_parts(start.as_ptr().cast(), *len)
            },
            Bytes::Read(bytes) => bytes,
        })
    }
}

impl Drop for TypeInformation {
    fn drop(&mut self) {
        if let Bytes::Mapped { start, len } = self.0 {
            // SAFETY: nothing that was lent of it is left. It cannot fail: the
            // range is one mapping.
            let _ = unsafe { munmap(start.as_ptr(), len) };
        }
    }
}
