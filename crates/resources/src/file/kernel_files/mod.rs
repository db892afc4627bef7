//! Open files as the kernel's own memory has them: all of an fd table read in
//! one go, where `/proc` would be asked ten times for each.
//!
//! Kernel object: `struct file`, with its inode, its mount and its name.
//! Truth from: `include/linux/{fdtable,fs}.h`, `fs/mount.h`, `include/linux/net.h`;
//! `seq_show` (`fs/proc/fd.c`), which prints nothing else of a file whose kind
//! has nothing to add and that nobody has locked. What eventfds have to add is known
//! here, too (`eventfd`): programs have thousands.
//!
//! Before anything is believed, files of this process are read in both ways: if
//! the two do not tell the same, or this kernel's types are other ones, `/proc`
//! is asked for all. It is asked, too, for tables that somebody uses who does not
//! stand still.

mod anonymous;
mod eventfd;
mod found;
mod layout;
mod own;
mod reader;
mod socket;
#[cfg(test)]
mod tests;

pub use found::{KernelFile, KernelFileId};
pub use reader::{KernelFiles, KernelTable};
pub(crate) use socket::{InnerSocket, KernelSocket};
