//! Fd tables.
//!
//! Kernel object: `struct files_struct`.
//! Truth from: `/proc/PID/fd` and `fdinfo`.
//! Image: `fdinfo-ID.img`.
//! Scenarios: `crates/resources/tests`.

use std::collections::BTreeMap;

use dormouse_image::ImageName;
use dormouse_image::proto::files::{FdType, FdinfoEntry};
use dormouse_image::store::NewPart;
use dormouse_kernel::FdNum;

use super::{FdTableId, File, FileId, FileRef, ImageSource, Use};
use crate::corrupt::corrupt;
use crate::{Error, Result};

/// `FD_CLOEXEC`: the one flag a descriptor has.
const CLOEXEC: u32 = 1;

/// A descriptor: `F` is how its file is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor<F = FileRef> {
    /// Its number.
    pub fd: FdNum,
    /// The open file description it stands for.
    pub file: F,
    /// Whether it is closed by `execve(2)`.
    pub close_on_exec: bool,
}

/// All descriptors of a table, lowest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FdTable<F = FileRef> {
    /// The descriptors.
    pub entries: Vec<Descriptor<F>>,
}

impl FdTable<FileId> {
    /// Writes the table. `files` are all files of the tree.
    ///
    /// # Errors
    /// The image cannot be written.
    pub fn encode(
        &self,
        id: FdTableId,
        files: &BTreeMap<FileId, File>,
        dump: &NewPart,
    ) -> Result<()> {
        let entry = |descriptor: &Descriptor<FileId>| {
            let Descriptor { fd, file, close_on_exec } = *descriptor;
            let kind = files.get(&file).expect("every file of a table was collected").tag();
            FdinfoEntry {
                id: file.as_raw(),
                flags: if close_on_exec { CLOEXEC } else { 0 },
                kind: kind.in_images().into(),
                fd: fd.as_raw(),
                xattr_security_selinux: None,
            }
        };
        let entries: Vec<_> = self.entries.iter().map(entry).collect();
        Ok(dump.put_all(ImageName::Fdinfo(id.as_raw()), &entries)?)
    }
}

impl FdTable {
    /// What a descriptor stands for.
    #[must_use]
    pub fn file(&self, fd: FdNum) -> Option<FileRef> {
        let at = self.entries.binary_search_by_key(&fd, |descriptor| descriptor.fd).ok()?;
        Some(self.entries[at].file)
    }

    /// Reads the table back. Tables are to be read in the order of the lowest
    /// pids that use them.
    ///
    /// # Errors
    /// It is damaged, or contradicts `files.img`.
    pub fn decode(id: FdTableId, source: &mut ImageSource<'_>) -> Result<Self> {
        let image = ImageName::Fdinfo(id.as_raw());
        let mut numbers = BTreeMap::new();
        let mut entries = Vec::new();
        for entry in source.dir().get_all::<FdinfoEntry>(image)? {
            let FdinfoEntry { id, flags, kind, fd, xattr_security_selinux } = entry;
            let wrong = |reason| corrupt(image, "descriptor", fd, reason);
            if xattr_security_selinux.is_some() {
                return Err(Error::Unsupported {
                    object: "a labelled file",
                    detail: format!("{image}, descriptor {fd}").into(),
                    reason: "SELinux labels are not restored yet",
                    hint: "restore it with CRIU",
                });
            }
            if flags & !CLOEXEC != 0 {
                return Err(wrong("it has flags that no descriptor has"));
            }
            // The kernel's limit of any table is below that (sysctl_nr_open_max).
            let file = FileId::from_raw(id);
            if i32::try_from(fd).is_err() || numbers.insert(fd, file).is_some() {
                return Err(wrong("its number is none, or there twice"));
            }
            let tag = FdType::try_from(kind).map_err(|_| wrong("the kind of its file is none"))?;
            if source.kind_of(file).is_some_and(|kind| kind.in_images() != tag.in_images()) {
                return Err(wrong("its file is of another kind"));
            }
            let file = source.file_ref(id, Use::Description, (image, "descriptor", fd.into()));
            let close_on_exec = flags & CLOEXEC != 0;
            entries.push(Descriptor { fd: FdNum::from_raw(fd), file, close_on_exec });
        }
        source.add_table(numbers);
        entries.sort_unstable_by_key(|descriptor| descriptor.fd);
        Ok(Self { entries })
    }
}
