//! Memory: every kind of mapping, and what pages hold and share.

pub(crate) mod anonymous;
