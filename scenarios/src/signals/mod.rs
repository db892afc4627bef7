//! Signals: actions, masks, what is pending, what is stopped.

pub(crate) mod actions;
pub(crate) mod altstack_busy;
pub(crate) mod altstack_idle;
pub(crate) mod altstack_none;
pub(crate) mod continued_unseen;
pub(crate) mod handler_running;
pub(crate) mod pending;
pub(crate) mod pending_above_limit;
pub(crate) mod pending_queue;
pub(crate) mod pending_quiet;
pub(crate) mod stopped;
pub(crate) mod stopped_unseen;
