//! The engine's three calls. Until they are there, each says so.

use dormouse_engine::{DumpOptions, Progress, RestoreOptions};
use dormouse_kernel::HostPid;

use crate::failure::{Failure, Operation};

/// What is known of a program that was restored.
#[derive(Debug)]
pub(super) struct Restored {
    /// Its root.
    pub(super) root: HostPid,
}

/// Dumps.
pub(super) fn dump(_: &DumpOptions, _: &mut dyn Progress) -> Result<(), Failure> {
    Err(Failure::NoEngine(Operation::Dump))
}

/// Restores.
pub(super) fn restore(_: &mut RestoreOptions, _: &mut dyn Progress) -> Result<Restored, Failure> {
    Err(Failure::NoEngine(Operation::Restore))
}

/// What a restore would create.
pub(super) fn plan(_: &RestoreOptions) -> Result<String, Failure> {
    Err(Failure::NoEngine(Operation::Restore))
}
