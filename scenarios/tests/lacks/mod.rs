//! What the engine does not know yet.

/// Kinds of state, as scenarios and programs name them in `needs`, with the reason to show for a
/// test that is skipped for it; `*` stands for all. What has `::` in it is a part of the names of
/// tests.
pub(crate) const LACKS: &[(&str, &str)] = &[
    ("epoll", "epolls are not restored in the engine yet"),
    ("files::unlinked_linked::", "a file with another hard link takes --link-remap"),
    ("memory::cow_", "pages in common are stored once, and do not come back shared yet"),
    ("memory::memfd::", "a memfd that is mapped and open comes back as two"),
    ("signals::stopped::root::killed_dump", "the way back of a stopped task takes a SIGCONT"),
    ("syscalls::nanosleep::", "the time left is seen in the buffer for it"),
    ("syscalls::sigtimedwait_timeout::", "the wait begins anew with its whole time-out"),
    ("syscalls::sigwaitinfo::root::leave_running", "the wait ends with EINTR"),
    ("::killed_restore", "what is left of a tree can hold its pids for a moment"),
    ("locks", "file locks are not dumped yet"),
    ("sockets", "sockets are not dumped yet"),
    ("sysvipc", "System V IPC is not dumped yet"),
];
