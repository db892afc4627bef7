//! What is measured, and what is to be reached.

/// A workload of one size.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) workload: &'static str,
    pub(crate) size: u64,
    pub(crate) bar: Bar,
}

/// What is to be reached, for dump and restore.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    /// Faster than CRIU.
    Ahead,
    /// At most this part of CRIU's time.
    OfCriu(f64, f64),
    /// At most so many times the bare work.
    OfLimit(f64, f64),
}

use Bar::{Ahead, OfCriu, OfLimit};

const fn case(workload: &'static str, size: u64, bar: Bar) -> Case {
    Case { workload, size, bar }
}

/// Everything, by workload and growing size.
pub(crate) const ALL: &[Case] = &[
    case("tiny", 1, OfCriu(0.1, 0.1)),
    case("mem", 64, Ahead),
    case("mem", 1024, OfLimit(1.0, 1.0)),
    case("mem", 4096, OfLimit(1.0, 1.0)),
    case("zero", 1024, Ahead),
    case("sparse", 100_000, OfCriu(0.5, 0.5)),
    case("threads", 100, OfCriu(0.2, 0.2)),
    case("threads", 1000, OfCriu(0.2, 0.2)),
    case("threads", 4000, OfCriu(0.2, 0.2)),
    case("procs", 25, OfCriu(0.2, 0.2)),
    case("procs", 100, OfCriu(0.2, 0.2)),
    case("procs", 500, OfCriu(0.2, 0.2)),
    case("vmas", 1000, OfCriu(0.33, 0.33)),
    case("vmas", 10_000, OfCriu(0.33, 0.33)),
    case("vmas", 40_000, OfCriu(0.33, 0.33)),
    case("fds", 1000, OfCriu(0.33, 0.33)),
    case("fds", 10_000, OfCriu(0.33, 0.33)),
    case("epoll", 1000, OfCriu(0.1, 0.5)),
    case("epoll", 5000, OfCriu(0.1, 0.5)),
    case("epoll", 15_000, OfCriu(0.1, 0.5)),
    case("epoll-stale", 40_000, OfLimit(5.0, 5.0)),
    case("epoll-stale", 1_000_000, OfLimit(5.0, 5.0)),
    case("cow", 512, OfLimit(1.3, 1.3)),
    case("files", 500, Ahead),
    case("files", 2000, Ahead),
    case("sockets", 1000, Ahead),
    case("sockets", 10_000, Ahead),
];

impl Case {
    /// `WORKLOAD-SIZE`.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.workload, self.size)
    }

    /// How many bytes of memory each dump has to copy, where that is what takes
    /// the time.
    pub(crate) fn copied(&self) -> u64 {
        match self.workload {
            "mem" | "cow" => self.size << 20,
            _ => 0,
        }
    }

    /// Is it asked for, by its workload or with its size? All are if none is.
    pub(crate) fn is_chosen(&self, only: &[String]) -> bool {
        let name = self.name();
        only.is_empty() || only.iter().any(|one| one == self.workload || *one == name)
    }
}
