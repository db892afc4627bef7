//! Internet sockets: listening, bound and connected ones, with their options.

pub(crate) mod connected;
pub(crate) mod corked;
pub(crate) mod device;
pub(crate) mod free_bind;
pub(crate) mod listen;
pub(crate) mod mptcp_listen;
pub(crate) mod multicast;
pub(crate) mod options;
pub(crate) mod place;
pub(crate) mod raw;
pub(crate) mod reuse_port;
pub(crate) mod reuse_port_past;
pub(crate) mod reuse_port_program;
pub(crate) mod udp;
pub(crate) mod udp_error;
pub(crate) mod udp_queued;
pub(crate) mod udp_queued_shared;
pub(crate) mod udp_reports;
pub(crate) mod unanswered;
pub(crate) mod unconnected;
pub(crate) mod watched;
