//! The phases of a restore.

mod births;
mod decode;
mod directories;
mod endings;
mod errands;
mod family;
mod holder;
mod keyrings;
mod locks;
mod memory;
mod network;
mod outside;
mod overlap;
mod phases;
mod plan;
mod rights;
pub(crate) mod spawn_plan;
mod states;
mod tables;
mod terminals;
mod world;

pub use phases::{Restored, plan, restore};
pub use plan::Plan;
