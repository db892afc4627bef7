//! `io_setup(2)` and what follows it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicU8;

use rustix::io::Errno;

use super::done;

/// An AIO context. It lasts as long as the process.
#[derive(Clone, Copy)]
pub(crate) struct Aio(u64);

/// `struct iocb`.
#[repr(C)]
struct Request {
    data: u64,
    key: u32,
    rw_flags: u32,
    operation: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    len: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    notify: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Event {
    data: u64,
    request: u64,
    result: i64,
    more: i64,
}

const PREAD: u16 = 0;
const POLL: u16 = 5;

impl Aio {
    /// For so many requests.
    pub(crate) fn setup(requests: u32) -> io::Result<Self> {
        let mut context = 0_u64;
        // SAFETY: the context lives over the call.
        let result = unsafe { libc::syscall(libc::SYS_io_setup, requests, &raw mut context) };
        done(result).map(|_| Self(context))
    }

    /// One of the numbers in the ring's header: 1 for places, 2 head, 3 tail.
    pub(crate) fn header(self, number: usize) -> u32 {
        assert!(number < 8, "the header has eight numbers");
        // SAFETY: the ring is mapped at the context's name, and begins with them.
        unsafe { (self.0 as *const u32).add(number).read_volatile() }
    }

    /// Has a byte read from the file to `buffer`, which lasts; at once, if the file can.
    pub(crate) fn read(
        self,
        fd: BorrowedFd<'_>,
        offset: i64,
        buffer: &'static AtomicU8,
        data: u64,
    ) {
        check_eq!(self.try_read(fd, offset, buffer, data), Ok(()), "io_submit");
    }

    /// [`Self::read`], which fails with `EAGAIN` if there is no place for its completion.
    pub(crate) fn try_read(
        self,
        fd: BorrowedFd<'_>,
        offset: i64,
        buffer: &'static AtomicU8,
        data: u64,
    ) -> Result<(), Errno> {
        self.submit(fd, PREAD, (buffer.as_ptr() as u64, 1, offset), data)
    }

    /// Waits for the file to be readable.
    pub(crate) fn poll(self, fd: BorrowedFd<'_>, data: u64) {
        let submitted = self.submit(fd, POLL, (libc::POLLIN as u64, 0, 0), data);
        check_eq!(submitted, Ok(()), "io_submit");
    }

    fn submit(
        self,
        fd: BorrowedFd<'_>,
        operation: u16,
        (buffer, len, offset): (u64, u64, i64),
        data: u64,
    ) -> Result<(), Errno> {
        let fd = fd.as_raw_fd().cast_unsigned();
        let (key, rw_flags, priority, reserved, flags, notify) = (0, 0, 0, 0, 0, 0);
        let mut request = Request {
            data,
            key,
            rw_flags,
            operation,
            priority,
            fd,
            buffer,
            len,
            offset,
            reserved,
            flags,
            notify,
        };
        let mut pointer = &raw mut request;
        // SAFETY: the request lives over the call, and its buffer for ever.
        let result = unsafe { libc::syscall(libc::SYS_io_submit, self.0, 1, &raw mut pointer) };
        match done(result) {
            Ok(count) => {
                check_eq!(count, 1, "requests taken by io_submit");
                Ok(())
            }
            Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        }
    }

    /// The data and results of completions: `least` at least, at most 256.
    pub(crate) fn events(self, least: usize, most: usize) -> Vec<(u64, i64)> {
        let mut events = [Event::default(); 256];
        let most = most.min(events.len());
        let none = std::ptr::null_mut::<libc::timespec>();
        // SAFETY: there is room for as many events as are asked for.
        let result = unsafe {
            libc::syscall(libc::SYS_io_getevents, self.0, least, most, events.as_mut_ptr(), none)
        };
        let count = done(result).expect("io_getevents");
        events[..count as usize].iter().map(|event| (event.data, event.result)).collect()
    }
}
