//! One room per kernel object: recognised, read, encoded, validated, created and filled.
#![forbid(unsafe_code)]

pub mod file {
    //! Open files.

    mod id;

    pub use id::{FdTableId, FileId, InodeId};
}
pub mod memory;
