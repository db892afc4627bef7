//! Tasks: one room per property.

mod actions;
mod alt_stack;
mod credentials;
mod fs;
mod interval_timers;
mod limits;
mod mask;
mod name;
mod parent_death;
mod pending;
mod personality;
mod property;
mod registers;
mod robust_list;
mod rseq;
mod scheduling;
mod subreaper;
mod tid_address;
mod tree;

pub use fs::FsState;
pub use property::{ProcessAsked, ProcessState, Property, TaskProbe, ThreadAsked, ThreadState};
pub use registers::Cpu;
pub use tree::{Life, TreeNode, decode_tree};
