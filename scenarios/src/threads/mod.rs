//! Threads and what each has for itself.

pub(crate) mod altstacks;
pub(crate) mod futex_hash;
pub(crate) mod hundred;
pub(crate) mod leader_ended;
pub(crate) mod masks;
pub(crate) mod memory_policy;
pub(crate) mod names;
pub(crate) mod own_creds;
pub(crate) mod own_files;
pub(crate) mod own_fs;
pub(crate) mod policies;
pub(crate) mod properties;
pub(crate) mod robust;
pub(crate) mod rseq;
pub(crate) mod rseq_section;
pub(crate) mod syscall_dispatch;
pub(crate) mod tls;
pub(crate) mod two;
