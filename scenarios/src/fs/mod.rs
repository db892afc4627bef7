//! Where paths start and what new files may be: working directory, root, umask.

pub(crate) mod cwd;
pub(crate) mod cwd_deleted;
pub(crate) mod root;
pub(crate) mod root_of_all;
pub(crate) mod umask;
