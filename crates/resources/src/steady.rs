//! What may change while it is read out of the kernel's memory.

use epoll_interest::kernel_memory::ReadError;

/// How often it is read until it is twice the same.
pub(crate) const ATTEMPTS: usize = 64;

/// Reads until that gives the same twice; what moves away meanwhile is read again. `None`: it never
/// stood still.
pub(crate) fn steady<T: PartialEq>(
    mut read: impl FnMut() -> Result<T, ReadError>,
) -> Result<Option<T>, ReadError> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match read() {
            Ok(now) if last.as_ref() == Some(&now) => return Ok(last),
            Ok(now) => last = Some(now),
            Err(ReadError::Fault) => last = None,
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
