//! What creates files, and what they keep at hand meanwhile.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dormouse_image::ImageDir;
use rustix::fs::OFlags;
use tracing::debug;

use super::fill::CreatedFiles;
use super::{FileId, FileRef, Files, Stage};
use crate::{Error, Result};

/// Where the contents of shared memory objects come from, see
/// [`SaveShared`](super::SaveShared).
pub trait LoadShared {
    /// Fills `file`, which is `size` bytes of zeros, with what is stored under
    /// the number `shmid`.
    ///
    /// # Errors
    /// It cannot be read or written.
    fn load(&self, shmid: u32, file: BorrowedFd<'_>, size: u64) -> Result<()>;
}

/// A file that could not be created.
#[derive(Debug)]
pub struct Uncreated {
    /// Which, if it is about one.
    pub file: Option<FileId>,
    /// Why.
    pub source: Error,
}

/// A point in the course of a restore at which inodes that are kept at hand
/// are let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Milestone {
    /// All open file descriptions exist that are not about a process.
    Created,
    /// Everything that is mapped is mapped, with its contents.
    Mapped,
}

/// What the files of one kind keep at hand while they are created: inodes
/// that several of them share and that no path leads to.
pub(crate) trait Stash: Any + Default {
    /// Lets go of what is not needed any more.
    fn reached(&mut self, milestone: Milestone) -> Result<()>;
}

trait AnyStash: Any {
    fn reached(&mut self, milestone: Milestone) -> Result<()>;
}

impl<S: Stash> AnyStash for S {
    fn reached(&mut self, milestone: Milestone) -> Result<()> {
        Stash::reached(self, milestone)
    }
}

/// What rooms are given when they create files, and what creates them.
///
/// The order of a restore is: mappings and directories are opened and files
/// created, in any order; the fd tables are complete; then
/// [`CreateCx::finish`], when all that is mapped is mapped and filled.
pub struct CreateCx<'a> {
    files: &'a Files,
    /// The images, for contents that are too large to be kept.
    pub(crate) images: &'a ImageDir,
    /// Where the contents of memfds come from.
    pub shared: &'a dyn LoadShared,
    outer_terminal: Option<OwnedFd>,
    checks_builds: bool,
    inherited: BTreeMap<String, OwnedFd>,
    made: BTreeMap<FileId, OwnedFd>,
    stashes: BTreeMap<TypeId, Box<dyn AnyStash>>,
}

impl<'a> CreateCx<'a> {
    /// Creates `files`, which were decoded from `images`.
    #[must_use]
    pub fn new(files: &'a Files, images: &'a ImageDir, shared: &'a dyn LoadShared) -> Self {
        Self {
            files,
            images,
            shared,
            outer_terminal: None,
            checks_builds: true,
            inherited: BTreeMap::new(),
            made: BTreeMap::new(),
            stashes: BTreeMap::new(),
        }
    }

    /// All files.
    pub(crate) fn files(&self) -> &'a Files {
        self.files
    }

    /// With the terminal that stands for those whose other end is not among the
    /// images (`--shell-job`).
    #[must_use]
    pub fn with_outer_terminal(self, terminal: Option<OwnedFd>) -> Self {
        Self { outer_terminal: terminal, ..self }
    }

    /// Compares build IDs with those that the dump has noted, or does not.
    #[must_use]
    pub fn with_builds_checked(self, checks_builds: bool) -> Self {
        Self { checks_builds, ..self }
    }

    pub(crate) fn checks_builds(&self) -> bool {
        self.checks_builds
    }

    /// With files that are handed over, by their names.
    #[must_use]
    pub fn with_inherited(self, files: impl IntoIterator<Item = (String, OwnedFd)>) -> Self {
        Self { inherited: files.into_iter().collect(), ..self }
    }

    /// Hands over what a task of the tree has made.
    pub fn give(&mut self, file: FileRef, made: OwnedFd) {
        self.made.insert(file.0, made);
    }

    /// What a task of the tree has made of a file.
    pub(crate) fn take_made(&mut self, file: FileId) -> Option<OwnedFd> {
        self.made.remove(&file)
    }

    /// The file that was handed over under this name.
    pub(crate) fn inherited(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.inherited.get(name).map(AsFd::as_fd)
    }

    pub(crate) fn outer_terminal(&self) -> Option<BorrowedFd<'_>> {
        self.outer_terminal.as_ref().map(AsFd::as_fd)
    }

    /// What the files of one kind keep at hand.
    pub(crate) fn stash<S: Stash>(&mut self) -> &mut S {
        let stash: &mut dyn Any = self
            .stashes
            .entry(TypeId::of::<S>())
            .or_insert_with(|| Box::new(S::default()))
            .as_mut();
        stash.downcast_mut().expect("a stash is kept under its own type")
    }

    /// Opens the inode of a file for a mapping, with the access `flags` say
    /// (`O_RDONLY` or `O_RDWR`, and nothing else unless the mapping needs it).
    ///
    /// # Errors
    /// The file is not what it was, or the kernel refuses.
    pub fn open_for_mapping(&mut self, file: FileRef, flags: OFlags) -> Result<OwnedFd> {
        let inode = self.files.get(file).inode().expect("checked when it was decoded");
        inode.open(file.0, flags, self)
    }

    /// Opens the inode of a file with `O_PATH`: an executable, a working
    /// directory, a root.
    ///
    /// # Errors
    /// As for [`open_for_mapping`](Self::open_for_mapping).
    pub fn open_path(&mut self, file: FileRef) -> Result<OwnedFd> {
        self.open_for_mapping(file, OFlags::PATH)
    }

    /// Creates every open file description that needs no process of the tree,
    /// each once, in the order of their numbers. The ends of a pipe that nobody
    /// has are closed at the end.
    ///
    /// # Errors
    /// The first that cannot be created.
    pub fn create_all(&mut self) -> Result<CreatedFiles<'a>, Uncreated> {
        let (created, given) = (BTreeMap::new(), BTreeSet::new());
        let mut files = CreatedFiles { files: self.files, created, given };
        self.create_stage(Stage::Early, &mut files)?;
        let reached = self.reached(Milestone::Created);
        reached.map_err(|source| Uncreated { file: None, source })?;
        Ok(files)
    }

    /// Creates the others, when all processes and threads live.
    ///
    /// # Errors
    /// The first that cannot be created.
    pub fn create_living(&mut self, files: &mut CreatedFiles<'a>) -> Result<(), Uncreated> {
        self.create_stage(Stage::Living, files)
    }

    /// Creates those that are about what is in fd tables, when that is there.
    ///
    /// # Errors
    /// The first that cannot be created.
    pub fn create_installed(&mut self, files: &mut CreatedFiles<'a>) -> Result<(), Uncreated> {
        self.create_stage(Stage::Installed, files)
    }

    fn create_stage(
        &mut self,
        stage: Stage,
        files: &mut CreatedFiles<'a>,
    ) -> Result<(), Uncreated> {
        for (id, file) in self.files.descriptions() {
            if file.stage() != stage {
                continue;
            }
            let key = if self.inherited.is_empty() { None } else { file.inherit_key() };
            let made = match key.and_then(|key| self.inherited(&key)) {
                Some(inherited) => {
                    files.given.insert(id);
                    file.take_over(id, inherited)
                }
                None => file.create(id, self),
            };
            let made = made.map_err(|source| Uncreated { file: Some(id), source })?;
            debug!(id = id.as_raw(), "{}", file.name());
            files.created.insert(id, made);
        }
        Ok(())
    }

    /// Closes what was kept for mappings, and seals what is to be sealed.
    ///
    /// # Errors
    /// The kernel refuses a seal.
    pub fn finish(mut self) -> Result<()> {
        self.reached(Milestone::Mapped)
    }

    fn reached(&mut self, milestone: Milestone) -> Result<()> {
        self.stashes.values_mut().try_for_each(|stash| stash.reached(milestone))
    }
}

impl fmt::Debug for CreateCx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateCx").finish_non_exhaustive()
    }
}
