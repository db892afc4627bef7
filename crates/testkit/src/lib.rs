//! Real processes under test: scenarios, actions, verdicts.
//!
//! A *subject* is one scenario run as one user, a *checkpointer* is any binary
//! with CRIU's command line, an *action* is what is done to the subject between
//! its `ready` and its `go`. Every combination is one test ([`suite`]), and runs
//! in a pid namespace of its own ([`pen`]): pids cannot clash between tests that
//! run at once, and nothing outlives a test whatever it does.
//!
//! Two judges look at every test: the scenario itself, which verifies its state
//! and gives a verdict, and [`snapshot`], which compares all that `/proc` and
//! `kcmp` tell of the tree before and after, whatever the scenario is about.

#![forbid(unsafe_code)]

pub mod action;
pub mod binaries;
pub mod cases;
pub mod checkpointer;
pub mod failure;
pub mod guest;
pub mod interop;
pub mod pen;
pub mod program;
pub mod server;
pub mod snapshot;
pub mod subject;
pub mod suite;
pub mod target;
