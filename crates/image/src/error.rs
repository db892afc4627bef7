//! What can go wrong with an image.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::name::ImageName;

/// An operation on an image directory failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The contents are not what an image looks like.
    #[error("{path}, byte {offset}: {problem}", path = .path.display())]
    Corrupt {
        /// The image file.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong.
        problem: Problem,
    },
    /// The image has to be there, and is not.
    #[error("{path}: no such image", path = .path.display())]
    Missing {
        /// The image file.
        path: PathBuf,
    },
    /// What has an image's name is no regular file.
    #[error("{path} is {what}, no image", path = .path.display())]
    NoFile {
        /// Its path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// There is no `inventory.img`: the dump failed or is still under way.
    #[error("{dir}: no inventory.img, so no complete dump", dir = .dir.display())]
    Incomplete {
        /// The image directory.
        dir: PathBuf,
    },
    /// A format this crate does not read.
    #[error("{dir}: image format {version} (this reads {expected} only)", dir = .dir.display(),
        expected = crate::magic::IMAGES_VERSION)]
    Version {
        /// The image directory.
        dir: PathBuf,
        /// What its inventory says.
        version: u32,
    },
    /// A writer was dropped without `finish`.
    #[error("{image} was not written to its end")]
    Unfinished {
        /// The image.
        image: ImageName,
    },
    /// Two writers for one image.
    #[error("{image} is written twice")]
    Twice {
        /// The image.
        image: ImageName,
    },
    /// More than a message can hold.
    #[error("{image}: a message of {len} bytes (the limit is {max})", max = crate::framing::MAX_MESSAGE)]
    TooBig {
        /// The image.
        image: ImageName,
        /// Size of the message in bytes.
        len: usize,
    },
    /// The file system said no.
    #[error("{op} {path}", path = .path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
}

/// What is wrong with the contents of an image.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It ends too early.
    #[error("{needed} bytes expected, {left} left in the file")]
    Truncated {
        /// Bytes that should be there.
        needed: u64,
        /// Bytes that are.
        left: u64,
    },
    /// A message longer than any honest one.
    #[error("a message of {len} bytes (the limit is {max})", max = crate::framing::MAX_MESSAGE)]
    TooBig {
        /// Its claimed length in bytes.
        len: u64,
    },
    /// A message without anything in it, and more behind it.
    #[error("an empty message")]
    Empty,
    /// It begins with the wrong number.
    #[error("magic {found:#010x} instead of {expected:#010x}")]
    Magic {
        /// What is there.
        found: u32,
        /// What should be.
        expected: u32,
    },
    /// The bytes are no message of this type.
    #[error("not a {message}")]
    Message {
        /// The type.
        message: &'static str,
        /// Why not.
        source: prost::DecodeError,
    },
    /// It ends where a message should begin.
    #[error("no {message} here")]
    NoMessage {
        /// The type.
        message: &'static str,
    },
    /// Something follows what should be the last message.
    #[error("{left} bytes behind the last message")]
    Trailing {
        /// How many.
        left: u64,
    },
    /// A pagemap that makes no sense.
    #[error(transparent)]
    Pagemap(#[from] crate::pagemap::PagemapProblem),
}

impl ImageError {
    pub(crate) fn no_file(path: PathBuf, kind: FileType) -> Self {
        let what = match kind {
            FileType::Directory => "a directory",
            FileType::Fifo => "a fifo",
            FileType::Socket => "a socket",
            FileType::CharacterDevice | FileType::BlockDevice => "a device",
            _ => "no regular file",
        };
        Self::NoFile { path, what }
    }

    pub(crate) fn io(op: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { op, path: path.to_owned(), source: source.into() }
    }
}

/// Result of an operation on images.
pub type Result<T, E = ImageError> = std::result::Result<T, E>;
