//! A task of a live program, borrowed for a while.
//!
//! The program must come to no harm even if the tracer is killed at any
//! instant, since the kernel then sets every task going with the registers it
//! has. So whatever registers a borrowed task is given lead back to where it
//! was:
//!
//! 1. Code and [`Context`] are written where nothing is read or run: into the
//!    padding behind the ELF image of the process's own vDSO, or if it has
//!    unmapped that, behind the code of a program or library. Nothing has
//!    changed for the task so far.
//! 2. All its registers change at once, to the entry of the code; its signal
//!    mask only then, for the code's escape puts that back.
//! 3. It runs, and signals itself at the end. The signal is harmless to the
//!    program, and a stop to the tracer. If even that would be noticed
//!    ([`Host::quietly`]), it is stopped at the call instead, which is not made.
//! 4. It is given back the other way round: mask, registers, code.
//!
//! The first task of a process that is borrowed maps memory for batches, and unmaps
//! it when it is given back. Meanwhile it can lend that to others ([`Borrowed::lend`]),
//! each of which has a context of its own, as many as fit behind the code. If the
//! tracer dies, whoever of them is last to be done unmaps the memory.
//!
//! Where a limit of the program's leaves no room for that memory, it is raised for this one call.

mod each;
mod host;
mod lend;
mod limit;
mod look;
mod task;

pub use each::{borrow_each, run_each};
pub use host::Host;
pub use lend::run_all;
pub use task::Borrowed;
