//! Open namespaces.
//!
//! Kernel object: an open file description on an inode of nsfs, which stands
//! for a namespace and keeps it (`namespaces(7)`).
//! Truth from: its inode, held against those of the namespaces that dormouse is
//! in. A restore keeps these.
//! Image: `ns_file_entry` in `files.img`.
//! Create: open the file in `/proc/self/ns`.
//! Fill: nothing.
//! Not preserved: the path, if it was opened by that of a bind mount, and
//! `O_NOFOLLOW`. A namespace that dormouse is not in is refused.
//! Kernel needed: 3.8.
//! Scenarios: `files::namespaces`.

use std::os::fd::{AsFd, OwnedFd};

use dormouse_image::ImageName;
use dormouse_image::proto::files::ns::NsFileEntry;
use dormouse_image::proto::files::{FdType, FileEntry};
use rustix::fs::{CWD, Mode, OFlags, open, statat};

use super::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, FsMagic, ImageSink,
    ImageSource, Inode, Probe, Stage, Status,
};
use crate::corrupt::corrupt;
use crate::memory::HOST_IPC;
use crate::{Error, Result};

/// A type of namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceType {
    /// Its name in `/proc/PID/ns`.
    name: &'static str,
    /// `CLONE_NEW*`.
    flag: i32,
    /// The number that images give to the namespace of this type that dormouse
    /// is in: as CRIU numbers them, whose own come first.
    pub number: u32,
}

impl NamespaceType {
    /// `pid_namespaces(7)`.
    pub const PID: Self = Self { name: "pid", flag: libc::CLONE_NEWPID, number: 1 };
    /// `network_namespaces(7)`.
    pub const NET: Self = Self { name: "net", flag: libc::CLONE_NEWNET, number: 2 };
    /// `ipc_namespaces(7)`.
    pub const IPC: Self = Self { name: "ipc", flag: libc::CLONE_NEWIPC, number: HOST_IPC };
    /// `uts_namespaces(7)`.
    pub const UTS: Self = Self { name: "uts", flag: libc::CLONE_NEWUTS, number: 4 };
    /// `time_namespaces(7)`.
    pub const TIME: Self = Self { name: "time", flag: libc::CLONE_NEWTIME, number: 5 };
    /// `mount_namespaces(7)`.
    pub const MOUNT: Self = Self { name: "mnt", flag: libc::CLONE_NEWNS, number: 6 };
    /// `user_namespaces(7)`.
    pub const USER: Self = Self { name: "user", flag: libc::CLONE_NEWUSER, number: 7 };
    /// `cgroup_namespaces(7)`.
    pub const CGROUP: Self = Self { name: "cgroup", flag: libc::CLONE_NEWCGROUP, number: 8 };

    const ALL: [Self; 8] = [
        Self::PID,
        Self::NET,
        Self::IPC,
        Self::UTS,
        Self::TIME,
        Self::MOUNT,
        Self::USER,
        Self::CGROUP,
    ];

    /// The file of the namespace that this process is in.
    fn path(self) -> String {
        format!("/proc/self/ns/{}", self.name)
    }
}

/// A namespace that dormouse is in, opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Namespace {
    status: Status,
    type_: NamespaceType,
}

impl FileKind for Namespace {
    const NAME: &'static str = "namespace";
    const TYPE: FdType = FdType::Ns;
    const RANKS: &'static [FillRank] = &[];

    fn claims(probe: &Probe) -> bool {
        probe.file_system == FsMagic::NS
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let status = Status::collect_without(cx, probe, OFlags::NOFOLLOW)?;
        // Kernels that lack a type have no file for it.
        let is_own = |type_: &NamespaceType| {
            statat(CWD, type_.path(), rustix::fs::AtFlags::empty())
                .is_ok_and(|own| (own.st_dev, own.st_ino) == (probe.stat.st_dev, probe.stat.st_ino))
        };
        let type_ = NamespaceType::ALL.into_iter().find(is_own);
        let type_ = type_.ok_or_else(|| Error::Unsupported {
            object: "a namespace",
            detail: probe.link.clone().into(),
            reason: "it is not one that dormouse is in, and others are not saved yet",
            hint: "checkpoint the program when it has closed the file",
        })?;
        Ok(Self { status, type_ })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { status, type_ } = self;
        let (flags, fown) = status.encode();
        let entry = NsFileEntry {
            id: id.as_raw(),
            ns_id: type_.number,
            ns_cflag: type_.flag.cast_unsigned(),
            flags,
            fown: Some(fown),
        };
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            nsf: Some(Box::new(entry)),
            ..FileEntry::default()
        };
        images.put(id, entry);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, _: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(entry) = entry.nsf.as_deref() else {
            return Err(wrong("it has no ns_file_entry"));
        };
        // CRIU's numbers are others; whoever has namespaces of his own is refused.
        let NsFileEntry { id: own_id, ns_id: _, ns_cflag, flags, fown } = entry;
        if *own_id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        let is_meant = |type_: &NamespaceType| type_.flag.cast_unsigned() == *ns_cflag;
        let type_ = NamespaceType::ALL.into_iter().find(is_meant);
        let type_ = type_.ok_or_else(|| wrong("it is of no type of namespaces"))?;
        let fown = fown.clone().unwrap_or_default();
        let status = Status::decode(Self::NAME, id, *flags, &fown)?;
        Ok(Self { status, type_ })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        Stage::Early
    }

    fn create(&self, _: FileId, _: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let Self { status, type_ } = self;
        let path = type_.path();
        let flags = (status.open_flags() - OFlags::NOFOLLOW) | OFlags::CLOEXEC;
        let file = open(&path, flags, Mode::empty()).map_err(Error::kernel("open", &path))?;
        status.apply(Self::NAME, file.as_fd())?;
        Ok(file)
    }

    fn inode(&self) -> Option<&dyn Inode> {
        None
    }

    fn fill(_: FillRank, _: &[Created<'_, Self>], _: &FillCx<'_>) -> Result<()> {
        Ok(())
    }
}
