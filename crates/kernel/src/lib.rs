//! A thin safe layer over the Linux interfaces that checkpointing needs.

pub mod id;

pub use id::{FdNum, HostPid, NsPid};
