//! Reads and judges all images, before the first process is created.

mod all;
mod checkpoint;
mod process;

pub(super) use all::{contradiction, decode};
pub(crate) use checkpoint::{Body, Checkpoint, DirectoriesId, Process, Space, Thread, host};
