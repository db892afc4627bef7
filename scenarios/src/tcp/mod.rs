//! Open TCP connections.

pub(crate) mod both_ends;
pub(crate) mod deferred;
pub(crate) mod deferred_unasked;
pub(crate) mod ended_unread;
pub(crate) mod failed;
pub(crate) mod half_shut;
pub(crate) mod leftovers;
pub(crate) mod options;
pub(crate) mod pair;
pub(crate) mod segment_size;
pub(crate) mod syn_sent;
pub(crate) mod unaccepted;
pub(crate) mod unaccepted_changed;
pub(crate) mod unaccepted_much;
pub(crate) mod unaccepted_outside;
pub(crate) mod unaccepted_sent;
pub(crate) mod urgent_ended;
pub(crate) mod urgent_read;
pub(crate) mod urgent_sent;
