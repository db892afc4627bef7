//! What every kind of file answers.

use std::fmt::Debug;
use std::os::fd::{BorrowedFd, OwnedFd};

use dormouse_image::proto::files::{FdType, FileEntry};
use rustix::fs::OFlags;

use super::{CollectCx, CreateCx, FileId, FillCx, ImageSink, ImageSource, Probe, Status};
use crate::Result;

/// When files are filled, once every file exists and every fd table is
/// complete. Ranks run in order over the whole tree, so a rank may rely on
/// everything that lower ranks did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FillRank {
    /// What can only be done while every file is new, and none holds
    /// anything.
    Fresh,
    /// The object's own bytes: what a pipe holds, how far a counter is.
    Contents,
    /// What it watches, once that is as it will be, and who is to be dead is:
    /// epoll items.
    Watches,
    /// What makes it act by itself: timers, connections, signals.
    Arm,
}

impl FillRank {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Fresh, Self::Contents, Self::Watches, Self::Arm];
}

/// When a file can be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Before there is any process.
    Early,
    /// When all processes and threads of the tree live, but for those whose
    /// end comes last: the file is about one of them.
    Living,
    /// When all other files are in the fd tables: the file is about one of those.
    Installed,
}

/// A file of one kind that was created.
#[derive(Debug)]
pub struct Created<'a, K> {
    /// Its number.
    pub id: FileId,
    /// Its state.
    pub kind: &'a K,
    /// The open file description, empty.
    pub file: BorrowedFd<'a>,
}

/// One kind of file: everything about how it is recognised, read, written to
/// images, validated, created and filled.
///
/// No verb has a default body: a kind that has nothing to do in one says so.
pub trait FileKind: Sized + Debug {
    /// What users and logs call it.
    const NAME: &'static str;
    /// The image's tag for it.
    const TYPE: FdType;
    /// When [`fill`](Self::fill) runs, lowest first.
    const RANKS: &'static [FillRank];

    /// Whether this room is the one for the file. Exactly one room of the
    /// registry claims any file; a file claimed by none is refused.
    fn claims(probe: &Probe) -> bool;

    /// Reads the object and changes nothing: peeks, never consumes.
    ///
    /// # Errors
    /// It has state that cannot be saved, or the kernel does not tell.
    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self>;

    /// Writes the file's entry, and by-products such as contents, to the
    /// images.
    ///
    /// # Errors
    /// They cannot be written.
    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()>;

    /// Reads the entry back and judges it. What it returns needs no further
    /// checks anywhere.
    ///
    /// # Errors
    /// The entry, or another image it relies on, is damaged.
    fn decode(id: FileId, entry: &FileEntry, images: &mut ImageSource<'_>) -> Result<Self>;

    /// What every open file description has, whatever its kind.
    fn status(&self) -> &Status;

    /// When [`create`](Self::create) can do its work.
    fn stage(&self) -> Stage;

    /// Creates the open file description, with its status flags and offset.
    /// It cannot see other files.
    ///
    /// # Errors
    /// The kernel refuses, or what the file relies on has changed.
    fn create(&self, id: FileId, cx: &mut CreateCx<'_>) -> Result<OwnedFd>;

    /// How to open the inode for something else than an open file
    /// description of a program's, if that can be.
    fn inode(&self) -> Option<&dyn Inode>;

    /// Fills what [`create`](Self::create) made, all files of the kind at
    /// once: called once for each of [`RANKS`](Self::RANKS). It can look up
    /// every other file, and the look-up cannot fail.
    ///
    /// # Errors
    /// The kernel refuses.
    fn fill(rank: FillRank, files: &[Created<'_, Self>], cx: &FillCx<'_>) -> Result<()>;
}

/// Kinds of files that can be mapped, executed, or be a directory in use.
pub trait Inode {
    /// Opens the inode: with the access that a mapping needs, or `O_PATH`.
    ///
    /// # Errors
    /// The kernel refuses, or the file has changed.
    fn open(&self, id: FileId, flags: OFlags, cx: &mut CreateCx<'_>) -> Result<OwnedFd>;
}
