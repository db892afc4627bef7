//! Contents of namespaces. The number in the file's name is the namespace id of
//! [`TaskKobjIdsEntry`](crate::proto::core::TaskKobjIdsEntry).

pub mod ipc;
pub mod mnt;
pub mod net;
pub mod pid;
pub mod time;
pub mod user;
pub mod uts;
