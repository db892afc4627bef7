//! Programs whose state is large in one way, to measure dumps and restores by.
//!
//! `dormouse-scenario --workload NAME SIZE STATE_DIR` follows the protocol of a
//! scenario: it says ready, waits for go, checks its whole state and gives a
//! verdict. `dormouse-scenario --limit NAME SIZE STATE_DIR` does the bare work
//! that no dump and no restore of it can do without, and prints what it took.

mod chain;
mod cow;
mod epoll;
mod fds;
mod files;
mod limit;
mod memory;
mod procs;
mod sockets;
mod threads;
mod tiny;
mod vmas;

pub use limit::Limit;

use crate::Context;

/// One workload.
pub struct Workload {
    /// Its name on the command line and in reports.
    pub name: &'static str,
    /// What its size counts.
    pub unit: &'static str,
    run: fn(&mut Context, usize),
    limit: Option<fn(&Context, usize) -> Limit>,
}

impl Workload {
    /// Sets the state up, waits, and checks it.
    pub fn run(&self, cx: &mut Context, size: usize) {
        (self.run)(cx, size);
    }

    /// Does the bare work, if there is a measure for it.
    #[must_use]
    pub fn limit(&self, cx: &Context, size: usize) -> Option<Limit> {
        self.limit.map(|limit| limit(cx, size))
    }
}

/// All workloads.
pub static ALL: &[Workload] = &[
    Workload { name: "tiny", unit: "process", run: tiny::run, limit: None },
    Workload { name: "mem", unit: "MiB", run: memory::random, limit: Some(limit::copy) },
    Workload { name: "zero", unit: "MiB", run: memory::zero, limit: None },
    Workload { name: "sparse", unit: "pages", run: memory::sparse, limit: None },
    Workload { name: "threads", unit: "threads", run: threads::run, limit: Some(limit::threads) },
    Workload { name: "procs", unit: "processes", run: procs::run, limit: Some(limit::forks) },
    Workload { name: "chain", unit: "processes", run: chain::run, limit: None },
    Workload { name: "vmas", unit: "mappings", run: vmas::run, limit: None },
    Workload { name: "fds", unit: "descriptors", run: fds::run, limit: None },
    Workload { name: "epoll", unit: "items", run: epoll::live, limit: Some(limit::adds) },
    Workload { name: "epoll-stale", unit: "items", run: epoll::stale, limit: Some(limit::adds) },
    Workload { name: "cow", unit: "MiB", run: cow::run, limit: Some(limit::copy) },
    Workload { name: "files", unit: "files", run: files::run, limit: None },
    Workload { name: "sockets", unit: "sockets", run: sockets::run, limit: None },
];
