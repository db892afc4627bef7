//! Batches of system calls run by a stopped task.
//!
//! A *puppet* is a task in a ptrace stop that makes system calls for
//! somebody else. A [`Batch`] of any number of them is written into its
//! memory, a few hundred bytes of code walk it, and the [`Replies`] are read
//! back: two context switches for thousands of calls.
//!
//! - [`Borrowed`] is a task of a live program, which must come to no harm
//!   even if the tracer is killed at any instant.
//! - [`Bare`] is a fork of the tracer on its way to become another program.
//!
//! Unsafe code is confined to [`arch`], where the code that puppets run is
//! taken as bytes.

#![deny(unsafe_code)]

pub mod arch;
mod bare;
mod batch;
mod borrowed;
mod busy;
mod error;
mod resume;
mod resumption;
mod rseq;
mod scratch;
mod session;
mod together;

pub use bare::{Bare, Ending, vacate_together};
pub use batch::{Arg, Batch, Data, OutSlot, Replies, Slot};
pub use borrowed::{Borrowed, Host, borrow_each, run_all, run_each};
pub use busy::{Busy, Perform};
pub use error::{Args, Error, Syscall};
pub use resume::call_with;
pub use resumption::{
    Interruption, Resumption, TimeOut, interruption, may_answer_eintr, remainder,
};
pub use together::run_together;
