//! What every kind of file answers.

use std::fmt::Debug;
use std::os::fd::{BorrowedFd, OwnedFd};

use dormouse_image::proto::{FdTypes, FileEntry};

use super::{CollectCx, CreateCx, FileId, FillCx, ImageSink, ImageSource, Probe};
use crate::Result;

/// When a file is filled, once every file exists and every fd table is
/// complete. Ranks run in order over the whole tree, so a rank may rely on
/// everything that lower ranks did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FillRank {
    /// The object's own bytes: what a pipe holds, where a file stands.
    Contents,
    /// What it watches or names among other files: epoll items, descriptors
    /// in flight.
    Watches,
    /// What makes it act by itself: timers, connections.
    Arm,
}

/// One kind of file: everything about how it is recognised, read, written to
/// images, validated, created and filled.
///
/// No verb has a default body: a kind that has nothing to do in one says so.
pub trait FileKind: Sized + Debug {
    /// What users and logs call it.
    const NAME: &'static str;
    /// The image's tag for it.
    const TYPE: FdTypes;
    /// When [`fill`](Self::fill) runs.
    const FILL: FillRank;

    /// Whether this room is the one for the file. Exactly one room of the
    /// registry claims any file; a file claimed by none is refused.
    fn claims(probe: &Probe) -> bool;

    /// Reads the object and changes nothing: peeks, never consumes.
    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self>;

    /// Writes the file's entry, and by-products such as contents, to the
    /// images.
    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()>;

    /// Reads the entry back and judges it. What it returns needs no further
    /// checks anywhere.
    fn decode(id: FileId, entry: FileEntry, images: &mut ImageSource<'_>) -> Result<Self>;

    /// Creates the open file description. It cannot see other files.
    fn create(&self, cx: &mut CreateCx<'_>) -> Result<OwnedFd>;

    /// Fills what [`create`](Self::create) made. It can look up every other
    /// file, and the look-up cannot fail.
    fn fill(&self, cx: &FillCx<'_>, file: BorrowedFd<'_>) -> Result<()>;
}
