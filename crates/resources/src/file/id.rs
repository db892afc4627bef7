//! Names for open file descriptions, fd tables and inodes inside one dump.

use std::fmt;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $name {
            /// Wraps the number an image holds.
            #[must_use]
            pub const fn from_raw(raw: u32) -> Self {
                Self(raw)
            }

            /// The number images hold.
            #[must_use]
            pub const fn as_raw(self) -> u32 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// An open file description; `id` of the entries in `files.img`.
    FileId;
    /// An fd table, shared by tasks that were cloned with `CLONE_FILES`.
    FdTableId;
    /// A file's inode that several open file descriptions or mappings share
    /// and that no path leads to: a pipe, a memfd, an unlinked file.
    InodeId;
}
