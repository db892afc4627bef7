//! A thin safe layer over the Linux interfaces that checkpointing needs.
//!
//! In the manner of `rustix`: descriptors are `OwnedFd` and `BorrowedFd`,
//! flags are bit sets, errors say which operation failed on what, and with
//! which [`Errno`]. Nothing here knows of images or of phases.
//!
//! Unsafe code is denied here and allowed again file by file, where a system
//! call has no safe wrapper in `rustix`.
#![deny(unsafe_code)]

pub mod addr;
pub mod admission;
pub mod bpf;
pub mod clone;
pub mod close;
pub mod close_on_exec;
pub mod device;
pub mod fanotify;
pub mod features;
pub mod file_mapping;
pub mod file_owner;
pub mod handle;
pub mod id;
pub mod io_uring;
pub mod kcmp;
pub mod key;
pub mod landlock;
pub mod mqueue;
pub mod multicast;
pub mod netfilter;
pub mod page_cache;
pub mod pagemap;
pub mod pidfd;
pub mod proc;
pub mod ptrace;
pub mod remote_memory;
pub mod restriction;
pub mod rlimit;
pub mod robust_list;
pub mod sched;
pub mod semaphore;
pub mod shm;
pub mod signal;
pub mod signalfd;
pub mod sock_diag;
pub mod socket;
mod sys;
pub mod tcp;
pub mod terminal;
pub mod timerfd;
pub mod tun;
pub mod userfaultfd;

#[cfg(test)]
extern crate self as dormouse_kernel;
#[cfg(test)]
#[path = "../tests/sleeper/mod.rs"]
mod sleeper;

pub use addr::{Addr, AddrRange, PAGE_SIZE};
pub use device::DeviceId;
pub use id::{FdNum, HostPid, NsPid};
pub use rustix::io::Errno;
