//! One room per kernel object: recognised, read, encoded, validated, created and filled.
#![forbid(unsafe_code)]

mod corrupt;
pub mod error;
pub mod file;
pub mod memory;
mod refusal;
mod steady;
pub mod task;
mod unseen;
pub mod userfault;

pub use error::{Error, Result};
