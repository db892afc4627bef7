//! Open files: one room per kind.

mod id;
mod kind;
mod probe;

pub use id::{FdTableId, FileId, InodeId};
pub use kind::{FileKind, FillRank};
pub use probe::{Holder, Probe, reopen};
