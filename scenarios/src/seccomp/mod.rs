//! Threads that may not make all system calls.

pub(crate) mod filter;
pub(crate) mod inherited;
pub(crate) mod killing;
pub(crate) mod notify;
pub(crate) mod privileged;
pub(crate) mod strict;
pub(crate) mod threads;
pub(crate) mod tsync;

use crate::sys;

/// `Seccomp` and `Seccomp_filters` of `status`.
fn status() -> Vec<String> {
    sys::capture_status(&["Seccomp", "Seccomp_filters", "NoNewPrivs"])
}
