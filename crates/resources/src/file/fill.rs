//! Files that are created, and what fills them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use dormouse_image::proto::files::FdType;
use dormouse_kernel::close::close_all;
use dormouse_kernel::{DeviceId, FdNum, HostPid, NsPid};
use rustix::fs::OFlags;

use super::{Connections, File, FileId, FileRef, Files, FillRank, Resuming, RingTasks};
use crate::{Error, Result};

/// Every open file description, created, in this process.
#[derive(Debug)]
pub struct CreatedFiles<'a> {
    pub(super) files: &'a Files,
    pub(super) created: BTreeMap<FileId, OwnedFd>,
    /// Those that were handed over, and not made.
    pub(super) given: BTreeSet<FileId>,
}

impl<'a> CreatedFiles<'a> {
    /// Whether a file exists by now.
    #[must_use]
    pub fn exists(&self, file: FileRef) -> bool {
        self.created.contains_key(&file.0)
    }

    /// The descriptor of a file that some fd table holds.
    #[must_use]
    pub fn get(&self, file: FileRef) -> BorrowedFd<'_> {
        self.created.get(&file.0).expect("a referenced description is created").as_fd()
    }

    /// Those TCP connections among them that were restored. All other files
    /// are from now on where they belong, and nowhere else.
    #[must_use]
    pub fn into_connections(self) -> Connections {
        let Self { files, created, given: _ } = self;
        let mut kinds = files.descriptions();
        let (mut connections, mut rest) = (Vec::new(), Vec::with_capacity(created.len()));
        let (mut kept_back, mut others) = (BTreeSet::new(), false);
        for (id, file) in created {
            let kind = kind_of(&mut kinds, id);
            others |= kind.has_waiting();
            kept_back.extend(kind.kept_back());
            match kind.as_connection() {
                Some(reuse) => connections.push((file, reuse)),
                None => rest.push(file),
            }
        }
        close_all(rest);
        Connections::new(connections, kept_back, others)
    }

    /// Has tasks register files with rings, and hold what they need to make those requests of rings
    /// again that waited, while they may ask this process for descriptors. Memory must be in its place.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn hold_for_rings(&self, tasks: &mut dyn RingTasks) -> Result<Vec<Resuming<'_>>> {
        let rings = self.files.rings();
        let held = rings.map(|(id, ring)| ring.hold(self.get(FileRef(id)), self, tasks));
        held.filter_map(Result::transpose).collect()
    }

    /// Registers memory, which has its contents, with userfaultfds: what is missing from now on is
    /// for their handlers.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn register_memory(&self) -> Result<()> {
        let mut all = self.files.userfaultfds();
        all.try_for_each(|(id, file)| file.register(self.get(FileRef(id))))
    }

    /// Gives signalfds their masks, now that items on them have fired or are pending.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn settle_signalfds(&self) -> Result<()> {
        self.files.descriptions().try_for_each(|(id, file)| match file {
            File::Signalfd(signalfd) => signalfd.settle(self.get(FileRef(id))),
            _ => Ok(()),
        })
    }

    /// A new open file description on the inode of one of them.
    ///
    /// # Errors
    /// What `open(2)` says; it does not wait.
    pub fn open_again(&self, file: FileRef, access: OFlags) -> Result<OwnedFd> {
        super::probe::reopen(self.get(file), access | OFlags::NONBLOCK)
            .map_err(Error::kernel("open", "/proc/self/fd"))
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl Iterator<Item = (FileId, BorrowedFd<'_>)> {
        self.created.iter().map(|(&id, file)| (id, file.as_fd()))
    }

    /// Fills all files as far as `rank` goes. The ranks are to be called in
    /// their order, [`FillRank::Arm`] when every task and thread exists.
    /// `host_pid` finds the restored task that a pid of the images stands for.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn fill(&self, rank: FillRank, host_pid: &dyn Fn(NsPid) -> Option<HostPid>) -> Result<()> {
        let cx = FillCx { created: self };
        let mut kinds = self.files.descriptions();
        let files = self.iter().map(|(id, file)| (id, kind_of(&mut kinds, id), file));
        let files: Vec<_> = files.collect();
        let made = |(id, file, _): &&(FileId, &File, BorrowedFd<'_>)| {
            file.is_filled_anyway() || !self.given.contains(id)
        };
        let filled: Vec<_> = files.iter().filter(made).copied().collect();
        File::fill(rank, &filled, &cx)?;
        if rank == FillRank::Arm {
            for (id, kind, file) in files {
                // One in flight has none.
                let own = FdNum::from_raw(file.as_raw_fd().cast_unsigned());
                let fd = match kind.status().is_async() {
                    true => self.files.announced.get(&id).copied().unwrap_or(own),
                    false => own,
                };
                kind.status().arm(kind.name(), (file, fd), host_pid)?;
            }
        }
        Ok(())
    }
}

/// The next of `kinds` that is file `id`, which is there.
fn kind_of<'a>(kinds: &mut impl Iterator<Item = (FileId, &'a File)>, id: FileId) -> &'a File {
    let found = kinds.find(|&(kind, _)| kind == id);
    found.expect("what was created is a description, and both are in order").1
}

/// What rooms are given when they fill files.
#[derive(Debug)]
pub struct FillCx<'a> {
    created: &'a CreatedFiles<'a>,
}

impl FillCx<'_> {
    /// Any other file.
    #[must_use]
    pub fn file(&self, file: FileRef) -> BorrowedFd<'_> {
        self.created.get(file)
    }

    /// The files whose inodes had no name and were made anew, by the device and number they had.
    pub(crate) fn former_inodes(&self) -> impl Iterator<Item = ((DeviceId, u64), FileRef)> {
        let files = self.created.files.descriptions();
        files.filter_map(|(id, file)| Some((file.former_inode()?, FileRef(id))))
    }

    /// Whether a file is of this kind.
    #[must_use]
    pub fn is(&self, kind: FdType, file: FileRef) -> bool {
        self.created.files.get(file).tag() == kind
    }
}
