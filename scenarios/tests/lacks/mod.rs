//! What the engine does not know yet.

/// Kinds of state, as scenarios and programs name them in `needs`, with the reason to show for a
/// test that is skipped for it; `*` stands for all.
pub(crate) const LACKS: &[(&str, &str)] = &[
    ("epoll", "epolls are not dumped yet"),
    ("locks", "file locks are not dumped yet"),
    ("sockets", "sockets are not dumped yet"),
    ("sysvipc", "System V IPC is not dumped yet"),
];
