//! The order of things: the phases of a dump and of a restore.
//!
//! Everything a user can ask for stands in [`DumpOptions`] and
//! [`RestoreOptions`]; everything that can go wrong is an [`Error`] with a
//! closed [`ErrorKind`], the phase it happened in and a hint.

#![forbid(unsafe_code)]

mod cause;
mod crew;
mod dump;
pub mod error;
mod landlock;
mod late_file;
pub mod options;
mod processor;
pub mod progress;
mod restore;
mod stats;

pub use dump::{DumpReport, dump};
pub use error::{Error, ErrorKind, Phase};
pub use options::{
    AfterDump, DumpOptions, NetworkLock, RestoreOptions, RootParent, TcpConnections, UnixPeers,
};
pub use processor::{CpuChecks, check_cpu, dump_cpu};
pub use progress::{NoProgress, Progress};
pub use restore::{Plan, Restored, plan, restore};
