//! Open TCP connections.

pub(crate) mod both_ends;
pub(crate) mod half_shut;
pub(crate) mod options;
pub(crate) mod pair;
