//! Tiny programs, one kernel behaviour each, that check themselves after a
//! checkpoint.
//!
//! All of them live in one binary, `dormouse-scenario NAME STATE_DIR`. A
//! scenario sets up its state, announces it ([`Context::ready`] writes the
//! root's pid to `STATE_DIR/ready`), waits until the file `STATE_DIR/go`
//! appears, verifies every detail of its own state, and ends; `main` then
//! writes `STATE_DIR/verdict`: `ok`, or what was expected and what was found.
//!
//! A scenario knows nothing of checkpointing. What the harness must know about
//! it (who may run it, what it needs, what may differ in `/proc` afterwards)
//! is stated as a [`Scenario`] and printed by `dormouse-scenario --list`.
//!
//! To add one: a file `src/SUBJECT/NAME.rs` with a header that says which
//! kernel behaviour it is about, and its line in [`registry::ALL`]. A test
//! compares the two.

#[macro_use]
mod check;

mod context;
mod facts;
pub mod probe;
pub mod registry;
mod sys;

mod cpu;
mod creds;
mod epoll;
pub mod exec_storm;
pub mod fd_worlds;
mod files;
mod fs;
mod inet;
mod io_uring;
mod keys;
mod locks;
mod memory;
mod mqueue;
mod netlink;
pub mod odd_caller;
pub mod odd_root;
mod packet;
mod pipes;
pub mod product;
mod refusals;
mod seccomp;
mod signals;
mod syscalls;
mod sysv;
mod tcp;
mod threads;
mod timers;
mod tree;
mod tty;
mod unix;
pub mod workloads;
pub mod worlds;

pub use context::Context;
pub use facts::{Scenario, User, Users};

/// Makes this process what a scenario's root is: leader of its own session,
/// and the given user. Call it first, and once.
pub fn begin(user: User) {
    sys::begin(user, true);
}

/// The same, but for all that an [odd root](odd_root) is; `dir` is the scenario's.
pub fn begin_oddly(user: User, dir: &std::path::Path) {
    sys::begin(user, false);
    odd_root::begin(dir);
}
