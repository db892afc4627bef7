//! Tracing other tasks: `ptrace(2)` of the `PTRACE_SEIZE` kind.
//!
//! A traced task is either [`Running`] or [`Stopped`], and a value of the one
//! type becomes one of the other by what is done to it: [`Running::wait`]
//! gives a [`Stopped`], [`Stopped::resume`] a [`Running`]. There is only ever
//! one value for a task, so nobody else can set going what somebody looks at.
//!
//! The kernel knows one tracer thread per task, and refuses all others with
//! `ESRCH`. Neither type can be sent to another thread.
//!
//! A task can be killed at any time, also while it is stopped. Requests then
//! fail with [`Error::Died`]. The kernel keeps the dead task until its tracer
//! has waited for it: see [`reap`].

mod error;
mod options;
mod raw;
mod reaper;
mod registers;
mod state;
mod status;
mod task;

pub use error::{Error, Request};
pub use options::Options;
pub use reaper::Reaper;
pub use registers::Registers;
pub use state::{Queue, Rseq, Segment, SyscallUserDispatch};
pub use status::{Event, Exit, Stop};
pub use task::{Halt, Halting, Outcome, Running, Stopped, reap};
