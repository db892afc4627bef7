//! Items that cannot be carried over.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use dormouse_kernel::{FdNum, HostPid};

/// What is the matter with an item of an epoll.
#[derive(Debug)]
pub enum ItemProblem {
    /// Nobody in the tree has its file open; who has, if that was found.
    Outside(Option<Outsider>),
    /// It is a one-shot that has fired, on a file of a kind that cannot be made
    /// to fire it again.
    Fired(PathBuf),
    /// It watches the signals of a process that is not in the tree.
    OthersSignals,
    /// Its state cannot be read where the kernel's structures cannot.
    Hidden(Hidden),
}

/// What only the kernel's structures tell of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// Whether an edge was reported.
    Edge,
    /// Whether it comes before another item.
    Order,
    /// Whose signals it watches.
    Signals,
}

/// Somebody who is not in the tree and has a file open.
#[derive(Debug)]
pub struct Outsider {
    /// The process.
    pub pid: HostPid,
    /// Its name.
    pub name: OsString,
    /// The number there.
    pub fd: FdNum,
}

impl ItemProblem {
    /// What the user can do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Outside(Some(_)) => "checkpoint the tree together with that process",
            Self::Outside(None) => "checkpoint the tree together with whoever has the file open",
            Self::Fired(_) => "checkpoint the program after it has armed the item again",
            Self::OthersSignals => {
                "checkpoint the tree together with the process that added the item"
            }
            Self::Hidden(_) => {
                "have dormouse read the kernel's structures: it takes BTF (CONFIG_DEBUG_INFO_BTF), CAP_BPF, \
                 CAP_PERFMON, and no lockdown to confidentiality (`dormouse check`); or dump when the epoll \
                 has nothing to report"
            }
        }
    }
}

impl fmt::Display for ItemProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OthersSignals => {
                f.write_str("watches the signals of a process that is not in the tree")
            }
            Self::Hidden(what) => f.write_str(match what {
                Hidden::Edge => {
                    "is an edge on what is ready, and nothing tells here whether it was reported"
                }
                Hidden::Order => {
                    "may have to come before another, and nothing tells here whether it does"
                }
                Hidden::Signals => {
                    "is on a signalfd, and nothing tells here whose signals it watches"
                }
            }),
            Self::Outside(holder) => {
                f.write_str("watches a file that no process of the tree has open")?;
                match holder {
                    Some(Outsider { pid, name, fd }) => {
                        write!(f, ": process {pid} ({name:?}) has it, as descriptor {fd}")
                    }
                    None => Ok(()),
                }
            }
            Self::Fired(link) => {
                write!(
                    f,
                    "is a one-shot that has fired, on {link:?}, where nothing can do that again"
                )
            }
        }
    }
}
