//! Registered files: the same in two places, none in one, one whose descriptor has another number by
//! now; a request that waits for one; in rings that one task submits to as well.
//!
//! Verified: what is in each place, by requests that name it; the request that waited completes
//! once; places can be taken and are as many as they were.
//! CRIU: refuses.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::write;

use crate::sys::io_uring::{
    Completion, DEFER_TASKRUN, FIXED, POLL_ADD, READ, REGISTER_FILES, REGISTER_FILES_UPDATE,
    Request, Ring, SINGLE_ISSUER,
};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).faults().missing(super::missing);

struct Registered {
    ring: Ring,
    event: OwnedFd,
    other: OwnedFd,
    room: &'static mut [u8; 8],
}

impl Registered {
    fn new(flags: u32) -> Self {
        let ring = Ring::setup(8, 0, flags).expect("io_uring_setup");
        let event = eventfd(0, EventfdFlags::NONBLOCK).expect("eventfd");
        let other = eventfd(0, EventfdFlags::NONBLOCK).expect("eventfd");
        let files = [event.as_raw_fd(), -1, other.as_raw_fd(), event.as_raw_fd()];
        check_eq!(ring.register(REGISTER_FILES, &files, 4).ok(), Some(0), "files registered");
        let moved = rustix::io::dup(&other).expect("dup");
        drop(other);
        let operation_flags = libc::POLLIN as u32;
        let poll = Request { operation: POLL_ADD, operation_flags, ..Request::default() };
        ring.push(&Request { flags: FIXED, fd: 3, data: 1, ..poll });
        check_eq!(ring.enter(1, 0).ok(), Some(1), "requests taken");
        Self { ring, event, other: moved, room: Box::leak(Box::new([0; 8])) }
    }

    #[track_caller]
    fn expect(&self, data: u64, result: i32) {
        check_eq!(self.ring.enter(0, 1).ok(), Some(0), "the wait");
        let expected = Completion { data, result, flags: 0 };
        check_eq!(self.ring.next(), Some(expected), "completion");
    }

    #[track_caller]
    fn read(&mut self, place: i32, result: i32) {
        let address = self.room.as_mut_ptr() as u64;
        self.ring.push(&Request {
            operation: READ,
            flags: FIXED,
            fd: place,
            offset: u64::MAX,
            address,
            len: 8,
            data: 2,
            ..Request::default()
        });
        check_eq!(self.ring.enter(1, 0).ok(), Some(1), "requests taken");
        self.expect(2, result);
    }

    fn verify(mut self) {
        check_eq!(self.ring.next(), None, "a completion before anything has happened");
        check_eq!(write(&self.event, &5_u64.to_ne_bytes()), Ok(8), "write");
        self.expect(1, libc::POLLIN.into());
        self.read(0, 8);
        check_eq!(u64::from_ne_bytes(*self.room), 5, "what was in the eventfd");
        check_eq!(write(&self.event, &6_u64.to_ne_bytes()), Ok(8), "write");
        self.read(3, 8);
        check_eq!(u64::from_ne_bytes(*self.room), 6, "what was in the eventfd");
        check_eq!(write(&self.other, &8_u64.to_ne_bytes()), Ok(8), "write");
        self.read(2, 8);
        check_eq!(u64::from_ne_bytes(*self.room), 8, "what was in the other eventfd");
        for place in [1, 4] {
            self.read(place, -libc::EBADF);
        }
        // `struct io_uring_rsrc_update`: where, and what.
        let files = [self.event.as_raw_fd()];
        let update = [1, files.as_ptr() as u64];
        let taken = self.ring.register(REGISTER_FILES_UPDATE, &update, 1);
        check_eq!(taken.ok(), Some(1), "places taken");
        check_eq!(write(&self.event, &7_u64.to_ne_bytes()), Ok(8), "write");
        self.read(1, 8);
        let beyond = self.ring.register(REGISTER_FILES_UPDATE, &[4, files.as_ptr() as u64], 1);
        check!(beyond.is_err(), "there are more places");
        (0..20).for_each(|data| self.ring.round(data));
    }
}

fn run(cx: &mut Context) {
    let (thread, _) = cx.thread(|cx| {
        let registered = Registered::new(SINGLE_ISSUER | DEFER_TASKRUN);
        cx.arrive(crate::sys::gettid());
        cx.wait_go();
        registered.verify();
    });
    let all = [0, SINGLE_ISSUER].map(Registered::new);

    cx.ready_and_wait();

    all.into_iter().for_each(Registered::verify);
    thread.join().expect("the thread does not panic");
}
