//! Memory: every kind of mapping, and what pages hold and share.

pub(crate) mod advice;
pub(crate) mod anonymous;
pub(crate) mod brk;
pub(crate) mod cow_chain;
pub(crate) mod cow_children;
pub(crate) mod cow_siblings;
pub(crate) mod deleted_file;
pub(crate) mod file_edges;
pub(crate) mod file_private;
pub(crate) mod file_shared;
pub(crate) mod growsdown;
pub(crate) mod huge;
pub(crate) mod huge_family;
pub(crate) mod layout;
pub(crate) mod locked;
pub(crate) mod locked_future;
pub(crate) mod many_vmas;
pub(crate) mod memfd;
pub(crate) mod no_vdso;
pub(crate) mod places;
pub(crate) mod protections;
pub(crate) mod shared_anonymous;
pub(crate) mod shared_anonymous_open;
pub(crate) mod sparse;
pub(crate) mod stack;
pub(crate) mod vdso;
