//! System calls under way: none may return early, late or with `EINTR`.

mod sleeping;

pub(crate) mod nanosleep;
