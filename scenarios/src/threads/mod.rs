//! Threads and what each has for itself.

pub(crate) mod two;
