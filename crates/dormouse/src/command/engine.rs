//! The engine's three calls.

use dormouse_engine::{DumpOptions, Plan, Progress, RestoreOptions, Restored};

use crate::failure::{Failure, Operation};

/// Dumps.
pub(super) fn dump(options: &DumpOptions, progress: &mut dyn Progress) -> Result<(), Failure> {
    dormouse_engine::dump(options, progress)
        .map(|_| ())
        .map_err(|source| Failure::Engine { operation: Operation::Dump, source })
}

/// Restores.
pub(super) fn restore(
    options: &mut RestoreOptions,
    progress: &mut dyn Progress,
) -> Result<Restored, Failure> {
    dormouse_engine::restore(options, progress)
        .map_err(|source| Failure::Engine { operation: Operation::Restore, source })
}

/// What a restore would create.
pub(super) fn plan(options: &RestoreOptions) -> Result<Plan, Failure> {
    dormouse_engine::plan(options)
        .map_err(|source| Failure::Engine { operation: Operation::Restore, source })
}
