//! Descriptors that go all at once.
#![allow(unsafe_code)]

use crate::sys::check;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// Closes them, with one call for those that have one number after the other.
pub fn close_all(files: impl IntoIterator<Item = OwnedFd>) {
    let mut numbers: Vec<RawFd> = files.into_iter().map(IntoRawFd::into_raw_fd).collect();
    numbers.sort_unstable();
    for run in numbers.chunk_by(|one, next| one + 1 == *next) {
        let (first, last) = (run[0], run[run.len() - 1]);
        // SAFETY: every number from the first to the last was owned, and nobody owns it now.
        let closed = check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) });
        if closed.is_err() {
            for &number in run {
                // SAFETY: the kernel has refused the call, so this is open and not owned yet.
                drop(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::close_all;
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::pipe::pipe;

    #[test]
    fn what_is_between_two_of_them_stays_open() {
        let (reader, writer) = pipe().unwrap();
        let one = writer.try_clone().unwrap();
        let kept = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let next = writer.try_clone().unwrap();
        close_all([next, writer, one]);
        assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Ok(0), "nobody can write any more");
        rustix::io::write(&kept, &1_u64.to_ne_bytes()).unwrap();
    }
}
