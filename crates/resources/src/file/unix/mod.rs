//! Unix sockets.
//!
//! Kernel object: `struct unix_sock`, with its queue and its address.
//! Truth from: `sock_diag(7)`, once for all; options and peers from the socket
//! itself; queues by looking into them while files are enumerated, as descriptors
//! may be in flight there, those of datagrams in the kernel's memory (`datagrams`).
//! Image: `unix_sk_entry` in `files.img`, `sk-queues.img`. What CRIU does not tell
//! has fields of our own: who is on the other side (`SO_PEERCRED`), what a peer
//! was called that has closed, senders of datagrams and their credentials, who
//! waits to be accepted in which order, and what they have sent (`embryos`): some
//! have closed again.
//! Create: all at once, as they were made: pairs by `socketpair(2)`, accepted ones
//! by connecting to whoever listened and accepting, each call by a stand-in for
//! whoever made it. A peer that has closed is made too, until queues are full.
//! A peer outside of the tree is refused, or as the user chooses: the socket comes
//! back connected to the same address, or as if the peer had closed.
//! Fill: queues, with the connections of datagram sockets (`delivery`), shutdowns, and what is in
//! the way of all that: buffer sizes, filters, credentials to be passed.
//! Not preserved: `SO_PEERPIDFD` stands for a process that has ended; the pid
//! of `SO_PEERCRED` if a process outside of the tree has it at the restore; the
//! rest under `queue`.
//! Kernel needed: `CONFIG_UNIX_DIAG`.
//! Scenarios: `unix`.

mod address;
mod buffers;
mod connection;
mod creation;
mod datagrams;
mod delivery;
mod embryos;
mod filling;
mod inside;
mod listening;
mod looking;
mod model;
mod pairs;
mod queue;
mod reader;
mod set;
mod socket;
mod spec;
mod survey;
mod waiting;

pub(super) use socket::Unix;
pub use survey::UnixSurvey;
