//! POSIX message queues.
//!
//! Kernel object: `struct mqueue_inode_info`, an inode of the file system
//! `mqueue`, with or without a name there; the messages in it; who is to be
//! told of the next.
//! Truth from: `ipc/mqueue.c`; the kernel's own memory, as whoever receives a
//! message takes it away.
//! Image: an entry of our own in `files.img`, and `mqueue.img`: CRIU has none.
//! Create: a queue that is still there is opened as it is, like a file. One
//! that is gone is made again with its messages, and is not the tree's before
//! that runs: until then its mode tells that a restore has made it. One without
//! a name has one as long as it is opened.
//! Fill: nothing; the processes ask to be told themselves.
//! Not preserved: times; of a queue that has lost its name, that in
//! `/proc/PID/fd`, if another has it now.
//! Refused: a queue that has lost its name, and that a process outside of the tree has open.
//! Kernel needed: one whose memory can be read (BPF, BTF).
//! Scenarios: `mqueue::*`.

mod description;
mod inside;
mod notification;
mod queue;

pub(super) use description::Mqueue;
pub use notification::Notification;
