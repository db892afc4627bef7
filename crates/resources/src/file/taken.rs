//! Names that are taken for a moment longer than who had them lives.
//!
//! Requests of io_uring hold their files until the kernel has put them away, which it does when the
//! tasks that made them have ended (`io_fallback_req_func` in `io_uring/io_uring.c`). So right after a
//! dump the sockets of the very tree may still have their addresses.

use std::time::{Duration, Instant};

use dormouse_kernel::Errno;

/// Makes a call again for a while as long as it answers `taken`.
pub(super) fn once_free(
    taken: Errno,
    mut call: impl FnMut() -> Result<(), Errno>,
) -> Result<(), Errno> {
    const PATIENCE: Duration = Duration::from_secs(1);
    let begun = Instant::now();
    loop {
        match call() {
            Err(error) if error == taken && begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(2));
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn a_name_is_had_when_it_is_free() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = taken.local_addr().unwrap();
        let bind = || match TcpListener::bind(address) {
            Ok(_) => Ok(()),
            Err(error) => Err(Errno::from_io_error(&error).unwrap()),
        };
        assert_eq!(once_free(Errno::ADDRINUSE, bind), Err(Errno::ADDRINUSE));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                drop(taken);
            });
            once_free(Errno::ADDRINUSE, bind).unwrap();
        });
        let mut calls = 0;
        let other = once_free(Errno::ADDRINUSE, || {
            calls += 1;
            Err(Errno::ACCESS)
        });
        assert_eq!((other, calls), (Err(Errno::ACCESS), 1));
    }
}
