//! Open files: where they stand, who shares them, what became of their names.

pub(crate) mod devices;
pub(crate) mod directory;
pub(crate) mod eventfd;
pub(crate) mod eventfd_full;
pub(crate) mod eventfd_semaphore;
pub(crate) mod fanotify;
pub(crate) mod fanotify_ids;
pub(crate) mod fanotify_unread;
pub(crate) mod inotify;
pub(crate) mod inotify_deleted;
pub(crate) mod inotify_unread;
pub(crate) mod numbers;
pub(crate) mod o_path;
pub(crate) mod offsets_shared;
pub(crate) mod pidfd;
pub(crate) mod pidfd_dead;
pub(crate) mod regular;
pub(crate) mod renamed;
pub(crate) mod signalfd;
pub(crate) mod table_shared;
pub(crate) mod timerfd;
pub(crate) mod timerfd_ticks;
pub(crate) mod timerfd_waits;
pub(crate) mod unlinked;
pub(crate) mod unlinked_linked;
