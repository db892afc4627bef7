//! What fdinfo would say of watched files.
//!
//! Truth from: `ep_show_fdinfo` (`fs/eventpoll.c`), `include/linux/fs.h`.

use std::collections::{BTreeMap, BTreeSet};

use super::FileKey;
use super::btf::{Btf, BtfError};
use super::memory::{Address, KernelMemory, ReadError};
use crate::fdinfo::Entry;

/// A watched file as fdinfo tells of it: see [`Entry`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Its offset, in bytes.
    pub pos: i64,
    /// The number of its inode.
    pub ino: u64,
    /// The device of that inode.
    pub dev: u32,
}

impl From<&Entry> for Listed {
    fn from(&Entry { fd: _, events: _, data: _, pos, ino, dev }: &Entry) -> Self {
        Self { pos, ino, dev }
    }
}

/// Offsets in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Files {
    position: usize,
    inode: usize,
    number: usize,
    file_system: usize,
    device: usize,
}

impl Files {
    pub(super) fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let (file, inode) = (btf.structure("file")?, btf.structure("inode")?);
        Ok(Self {
            position: file.offset("f_pos")?,
            inode: file.offset("f_inode")?,
            number: inode.offset("i_ino")?,
            file_system: inode.offset("i_sb")?,
            device: btf.structure("super_block")?.offset("s_dev")?,
        })
    }

    /// Reads what is told of `files`.
    pub(super) fn list(
        &self,
        memory: &mut KernelMemory,
        files: impl Iterator<Item = FileKey>,
    ) -> Result<BTreeMap<FileKey, Listed>, ReadError> {
        let files: Vec<Address> =
            files.map(|FileKey(file)| file).collect::<BTreeSet<_>>().into_iter().collect();
        let positions = memory.words_behind(&files, self.position)?;
        let inodes = memory.words_behind(&files, self.inode)?;
        let numbers = memory.words_behind(&inodes, self.number)?;
        let file_systems = memory.words_behind(&inodes, self.file_system)?;
        let devices = memory.words_behind(&file_systems, self.device)?;
        let inodes = numbers.into_iter().zip(devices);
        let listed = positions.into_iter().zip(inodes).map(|(pos, (ino, dev))| {
            // A `dev_t` has 32 bits.
            Listed { pos: pos.cast_signed(), ino, dev: dev as u32 }
        });
        Ok(files.into_iter().map(FileKey).zip(listed).collect())
    }
}
