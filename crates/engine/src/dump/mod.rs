//! The phases of a dump.

mod aio;
mod checks;
mod collect;
mod encode;
mod enumerate;
mod files;
pub(crate) mod freeze;
mod frozen;
mod interrupted;
mod keyrings;
mod namespaces;
mod phases;
mod queues;
mod restart_block;
mod rings;
mod semaphores;
mod senders;
mod sharing;
mod sleepers;
mod stacks;
mod stale;
mod terminals;
mod traced;
mod waits;

pub(crate) use keyrings::own_session;
pub use phases::{DumpReport, dump};
pub(crate) use queues::Usher;
