//! Rings of io_uring.

pub(crate) mod counted;
pub(crate) mod meanwhile;
pub(crate) mod queues;
pub(crate) mod registered;
pub(crate) mod setups;
pub(crate) mod shared;
pub(crate) mod timeouts;
pub(crate) mod waiting;

/// Why none can be had, if so.
pub(crate) fn missing() -> Option<String> {
    let works = crate::sys::io_uring::Ring::setup(1, 0, 0).is_ok();
    (!works).then(|| "io_uring is not available".into())
}
