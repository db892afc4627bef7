//! Process trees: shapes, sessions, zombies, orphans.

pub(crate) mod deep;
pub(crate) mod exit_signal;
pub(crate) mod groups_without_founder;
pub(crate) mod orphan;
pub(crate) mod orphan_below;
pub(crate) mod orphan_shares;
pub(crate) mod outside;
pub(crate) mod parent_death;
pub(crate) mod pid_order;
pub(crate) mod session_leader_gone;
pub(crate) mod session_leader_up;
pub(crate) mod session_members_apart;
pub(crate) mod session_orphans;
pub(crate) mod sessions;
pub(crate) mod sessions_crossed;
pub(crate) mod shared_memory;
pub(crate) mod shared_memory_siblings;
pub(crate) mod sibling_order;
pub(crate) mod sleeper;
pub(crate) mod thread_child;
pub(crate) mod thread_child_owner;
mod troupe;
pub(crate) mod wide;
pub(crate) mod zombie_credentials;
pub(crate) mod zombie_status;
pub(crate) mod zombies;
