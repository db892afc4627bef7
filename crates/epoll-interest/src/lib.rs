//! Read and write the interest list of an epoll, item by item, exactly.
//!
//! An epoll watches open files. Each of its items has a key, the pair of an
//! *open file description* and the *descriptor number* it was added under;
//! a mask; 64 bits of the program's own; and a state. Number and file are not
//! the same thing: the number may have been closed since, or stand for another
//! file by now, while the item lives on. And the state shows nowhere: whether an
//! edge is still to be reported or has been, and in which order what is ready
//! will come out, no system call tells without changing it.
//!
//! This crate offers two services:
//!
//! - **get**: [`Inspector::get_events`] reads every item of an epoll, with the
//!   file it really watches and its state, and changes nothing;
//!   [`Inspector::shared_queues`] tells where several files, such as two that are
//!   open on one FIFO, tell the items of all in one order. It reads the
//!   kernel's own structures through a small BPF program, by the kernel's own
//!   type information, which is first tried with an epoll of this process. It
//!   takes root (`CAP_BPF` and `CAP_PERFMON`) and a kernel with BTF, 5.14 or
//!   later.
//! - **insert**: [`insert()`] adds items under any number, free in the caller
//!   or not; [`Rebuild`] fills whole sets of epolls that watch each other and
//!   the same files, with every item in its state. That needs no privilege.
//!
//! Files are named by whatever identity the caller has: [`Interest`] is generic
//! over it. The work grows as n log n with the number of items, in two or three
//! system calls each.
//!
//! ```
//! use std::os::fd::{AsFd, BorrowedFd};
//!
//! use epoll_interest::{Inspector, Rebuild, Wanted};
//! use rustix::event::{EventfdFlags, epoll, eventfd};
//!
//! let old = epoll::create(epoll::CreateFlags::CLOEXEC)?;
//! let event = eventfd(1, EventfdFlags::CLOEXEC)?;
//! let mask = epoll::EventFlags::IN | epoll::EventFlags::ET;
//! epoll::add(&old, &event, epoll::EventData::new_u64(7), mask)?;
//!
//! # let Ok(mut inspector) = Inspector::new() else { return Ok(()) };
//! // get: every item, its file by a key that any descriptor of the file gives.
//! let found = inspector.get_events(old.as_fd())?.interest;
//! let keys = inspector.file_keys(&[event.as_fd()])?;
//! assert_eq!(found.items[0].file, keys[0]);
//! assert_eq!(found.pending, [0]);
//!
//! // insert: another epoll that will report the same.
//! let new = epoll::create(epoll::CreateFlags::CLOEXEC)?;
//! let interest = found.try_map(|item| match item.file == keys[0] {
//!     true => Ok("event"),
//!     false => Err("a file that somebody else holds"),
//! })?;
//! let rebuild = Rebuild::new(vec![Wanted { epoll: "new", interest }])?;
//! let fd = |file: &&str| -> Option<BorrowedFd<'_>> {
//!     match *file {
//!         "new" => Some(new.as_fd()),
//!         "event" => Some(event.as_fd()),
//!         _ => None,
//!     }
//! };
//! rebuild.prepare(fd)?;
//! rebuild.finish(fd)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(unsafe_code)]

mod busy_poll;
mod event;
pub mod fdinfo;
mod graph;
mod insert;
mod inspect;
mod interest;
#[cfg(test)]
mod model;
mod plan;
mod shared;
mod table;

pub use busy_poll::BusyPoll;
pub use event::{Events, FdNumber};
pub use graph::{Wanted, WantedError};
pub use insert::{
    EndedInsertion, InsertError, Insertion, LateItem, LeftArmed, Rebuild, insert, insert_by_ended,
    modify,
};
pub use inspect::{
    BtfError, FileKey, InspectError, Inspection, Inspector, Listed, SetUpError, SharedQueues,
    SignalsKey,
};

/// What the inspector is made of: reading kernel memory, by the kernel's own
/// type information, and nothing but reading.
pub mod kernel_memory {
    pub use crate::inspect::{
        Address, Bits, Btf, BtfError, DirectMap, FindError, KernelMemory, Numbers, OpenError,
        OpenFiles, ReadError, Struct, Table, Tasks, TypeInformation, symbols,
    };
}
pub use interest::{Interest, Item};
