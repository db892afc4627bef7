//! Open files: where they stand, who shares them, what became of their names.

pub(crate) mod eventfd;
pub(crate) mod eventfd_full;
pub(crate) mod eventfd_semaphore;
pub(crate) mod regular;
