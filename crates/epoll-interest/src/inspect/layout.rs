//! The few members of kernel structures that matter, by offset.
//!
//! Truth from: `fs/eventpoll.c` (`struct eventpoll`, `struct epitem`, `struct
//! epoll_filefd`), `include/linux/{fs,rbtree,list,mutex}.h`.

use super::btf::{Btf, BtfError};
use super::listed::Files;
use super::open_files::OpenFiles;
use super::queues::Queues;
use super::signals::Signals;

/// Offsets and sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) files: OpenFiles,
    pub(super) signals: Signals,
    pub(super) queues: Queues,
    pub(super) listed: Files,
    pub(super) file_operations: usize,
    pub(super) epoll_owner: usize,
    pub(super) epoll_root: usize,
    pub(super) epoll_ready: usize,
    pub(super) epoll_overflow: usize,
    pub(super) item_size: usize,
    pub(super) item_node: usize,
    pub(super) item_ready: usize,
    pub(super) item_file: usize,
    pub(super) item_fd: usize,
    pub(super) item_epoll: usize,
    pub(super) item_of_file: usize,
    pub(super) item_event: usize,
    pub(super) item_hook: usize,
    pub(super) node_parent: usize,
    pub(super) node_left: usize,
    pub(super) node_right: usize,
}

impl Layout {
    pub(super) fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let epoll = btf.structure("eventpoll")?;
        let item = btf.structure("epitem")?;
        let key = btf.structure("epoll_filefd")?;
        let node = btf.structure("rb_node")?;
        Ok(Self {
            files: OpenFiles::new(btf)?,
            signals: Signals::new(btf)?,
            queues: Queues::new(btf)?,
            listed: Files::new(btf)?,
            file_operations: btf.structure("file")?.offset("f_op")?,
            epoll_owner: epoll.offset("mtx")? + owner(btf)?,
            epoll_root: epoll.offset("rbr")?,
            epoll_ready: epoll.offset("rdllist")?,
            epoll_overflow: epoll.offset("ovflist")?,
            item_size: item.size(),
            item_node: item.offset("rbn")?,
            item_ready: item.offset("rdllink")?,
            item_file: item.offset("ffd")? + key.offset("file")?,
            item_fd: item.offset("ffd")? + key.offset("fd")?,
            item_epoll: item.offset("ep")?,
            item_of_file: item.offset("fllink")?,
            item_event: item.offset("event")?,
            item_hook: item.offset("pwqlist")?,
            node_parent: node.offset("__rb_parent_color")?,
            node_left: node.offset("rb_left")?,
            node_right: node.offset("rb_right")?,
        })
    }
}

/// Where a mutex says who holds it.
fn owner(btf: &Btf<'_>) -> Result<usize, BtfError> {
    let mutex = btf.structure("mutex")?;
    // The other is that of a kernel for real time.
    mutex.offset("owner").or_else(|_| {
        Ok(mutex.offset("rtmutex")? + btf.structure("rt_mutex_base")?.offset("owner")?)
    })
}
