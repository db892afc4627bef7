//! Names of files that have no inode of their own.
//!
//! Kernel object: `struct dentry`, made for one file and never renamed.
//! Truth from: `anon_inodefs_dname` (`fs/anon_inodes.c`): the link reads
//! `anon_inode:` and the name. A short one is in the structure itself
//! (`__d_alloc`, `fs/dcache.c`).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use epoll_interest::kernel_memory::{Address, Btf, BtfError, ReadError};

use super::KernelFiles;
use super::reader::{half, word};

/// Of a `struct dentry`, from its name on. Offsets in bytes, but for the first
/// from there.
#[derive(Clone, Copy, Debug)]
pub(super) struct NameMembers {
    name: usize,
    span: usize,
    len: usize,
    at: usize,
    short: usize,
}

impl NameMembers {
    pub(super) fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let (dentry, string) = (btf.structure("dentry")?, btf.structure("qstr")?);
        let name = dentry.offset("d_name")?;
        // Before 6.14 it had another name.
        let short = dentry.offset("d_shortname").or_else(|_| dentry.offset("d_iname"))?;
        // What comes next.
        let end = dentry.offset("d_op")?;
        let wrong = BtfError::NoMember("dentry", "d_shortname");
        let room = end.checked_sub(short).filter(|_| short > name).ok_or(wrong)?;
        let short = short - name;
        Ok(Self {
            name,
            span: short + room.min(MOST),
            len: string.offset("len")?,
            at: string.offset("name")?,
            short,
        })
    }
}

/// As many bytes as short names have, with the zero behind it.
const MOST: usize = 40;

/// A name that is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ShortName {
    bytes: [u8; MOST],
    len: usize,
}

impl ShortName {
    /// As the link of a descriptor reads.
    pub(super) fn link(&self) -> PathBuf {
        let mut link = PathBuf::from("anon_inode:").into_os_string();
        link.push(OsStr::from_bytes(&self.bytes[..self.len]));
        link.into()
    }
}

impl KernelFiles {
    /// Names of files, of those that have a short one.
    pub(super) fn names(
        &mut self,
        dentries: &[Address],
    ) -> Result<Vec<Option<ShortName>>, ReadError> {
        let NameMembers { name, span, len, at, short } = self.layout.names;
        let starts: Vec<_> = dentries.iter().map(|dentry| dentry + name as u64).collect();
        let read = self.memory.read(&starts, span)?;
        let names = starts.iter().zip(read.chunks_exact(span)).map(|(start, read)| {
            let room = &read[short..];
            let len = half(read, len) as usize;
            let inside = word(read, at) == start + short as u64;
            let is_whole = inside && room.iter().position(|&byte| byte == 0) == Some(len);
            let mut bytes = [0; MOST];
            bytes[..room.len()].copy_from_slice(room);
            is_whole.then_some(ShortName { bytes, len })
        });
        Ok(names.collect())
    }
}
