//! Signals: actions, masks, what is pending, what is stopped.

pub(crate) mod actions;
