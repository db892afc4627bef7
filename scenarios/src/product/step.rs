//! What can be done to an item and its file.

/// One thing that is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// `EPOLL_CTL_ADD` by the number of the key.
    Add,
    /// `EPOLL_CTL_MOD` by that number, with the mask that was asked for first.
    Modify,
    /// The file becomes ready.
    Rouse,
    /// Nothing is left that makes it ready.
    Calm,
    /// `epoll_wait`.
    Wait,
    /// The other end goes.
    Part,
}
