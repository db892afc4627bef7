//! State that no checkpointer can carry over: it must say so and leave the target alone.

pub(crate) mod address_space;
pub(crate) mod aio_poll;
pub(crate) mod amx;
pub(crate) mod append_only;
mod barred;
pub(crate) mod bpf_map;
pub(crate) mod code_of_32_bits;
pub(crate) mod detached;
pub(crate) mod dnotify;
pub(crate) mod epoll_signals;
pub(crate) mod epoll_stranger;
pub(crate) mod eventfd_path;
pub(crate) mod fanotify_permission;
pub(crate) mod fanotify_unlimited;
pub(crate) mod immutable;
pub(crate) mod immutable_renamed;
pub(crate) mod io_flusher;
pub(crate) mod io_uring;
pub(crate) mod io_uring_by_name;
pub(crate) mod io_uring_futex;
pub(crate) mod keys;
pub(crate) mod landlock;
pub(crate) mod landlock_thread;
pub(crate) mod leaderless_namespace;
pub(crate) mod local_descriptors;
pub(crate) mod many_files;
pub(crate) mod memory_policy;
pub(crate) mod most_mappings;
pub(crate) mod mount_namespace;
pub(crate) mod mqueue_stranger;
pub(crate) mod namespace;
pub(crate) mod packet_news;
pub(crate) mod read_closed_by_process;
pub(crate) mod read_replaced;
pub(crate) mod syscall_dispatch;
pub(crate) mod thread_namespace;
pub(crate) mod timerfd_cancelled;
pub(crate) mod tun;
pub(crate) mod unix_elsewhere;
pub(crate) mod unix_unaccepted;
pub(crate) mod unix_upset;
pub(crate) mod userfaultfd;
pub(crate) mod userfaultfd_in_call;
pub(crate) mod userfaultfd_outside;
pub(crate) mod vfork;
pub(crate) mod vsock;
pub(crate) mod wait_closed;
pub(crate) mod wait_replaced;

/// Puts the descriptor where the harness expects the refused object.
pub(crate) fn at_42(fd: i32) {
    crate::sys::dup2(fd, 42);
    crate::sys::close(fd);
}
