//! Process trees: shapes, sessions, zombies, orphans.

pub(crate) mod deep;
pub(crate) mod sleeper;
