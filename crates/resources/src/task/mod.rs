//! Tasks: one room per property.

mod actions;
mod alt_stack;
mod credentials;
mod fs;
mod interval_timers;
mod io_priority;
mod limits;
mod machine_check;
mod mask;
mod membarrier;
mod name;
mod parent_death;
mod pending;
mod personality;
mod posix_timers;
mod property;
mod registers;
mod robust_list;
mod rseq;
mod scheduling;
mod seccomp;
mod speculation;
mod subreaper;
mod tid_address;
mod time_stamp;
mod timer_slack;
mod tree;
mod write_execute;

pub use fs::FsState;
pub use interval_timers::IntervalTimers;
pub use pending::{ProcessPending, ThreadPending};
pub use posix_timers::{Numbering, PosixTimers, ThreadClocks};
pub use property::{ProcessAsked, ProcessState, Property, TaskProbe, ThreadAsked, ThreadState};
pub use registers::Cpu;
pub use seccomp::{Filters, Seccomp};
pub use tree::{Life, TreeNode, decode_tree};
