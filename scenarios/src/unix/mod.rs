//! Unix sockets.

pub(crate) mod backlog;
pub(crate) mod datagram_connected;
pub(crate) mod filter;
pub(crate) mod half_shut;
pub(crate) mod many;
pub(crate) mod names;
pub(crate) mod options;
pub(crate) mod pair_datagram;
pub(crate) mod pair_seqpacket;
pub(crate) mod pair_stream;
pub(crate) mod pass_cred;
pub(crate) mod path_file;
pub(crate) mod peek_offset;
pub(crate) mod peer_closed;
pub(crate) mod peer_cred;
pub(crate) mod peer_reset;
pub(crate) mod rights;
pub(crate) mod rights_cycle;
pub(crate) mod rights_nested;
pub(crate) mod rights_table;
pub(crate) mod senders;
mod talk;
pub(crate) mod urgent;
pub(crate) mod waiting;
