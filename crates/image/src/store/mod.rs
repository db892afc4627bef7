//! A directory of images.

mod read;
mod write;

pub(crate) use read::open_in;
pub use read::{FileSize, ImageDir, ImageReader};
pub use write::{DumpPlace, NewDump, NewPart, Writer};

/// Name of the directory (or link to it) an incremental dump builds upon.
pub const PARENT: &str = "parent";
