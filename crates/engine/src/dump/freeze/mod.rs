//! Stops every task of a tree.

mod error;
mod threads;
mod tree;

pub(crate) use error::Error;
pub(crate) use tree::freeze;
