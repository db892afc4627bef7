//! An epoll of many items: each on an eventfd of its own, or a few eventfds
//! under many numbers that are closed by now. One of three is ready.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

use crate::Context;
use crate::sys::{close, dup2};

/// Numbers that stale keys have.
const NUMBERS: std::ops::Range<i32> = 1_000..11_000;

fn event(ready: bool) -> OwnedFd {
    eventfd(ready.into(), EventfdFlags::NONBLOCK).expect("eventfd")
}

fn add(epoll: &OwnedFd, file: BorrowedFd<'_>, data: u64) {
    let flags = EventFlags::IN | EventFlags::ET;
    epoll::add(epoll, file, EventData::new_u64(data), flags).expect("EPOLL_CTL_ADD");
}

/// All that is ready must come out, once.
fn verify(epoll: &OwnedFd, ready: impl Iterator<Item = u64>) {
    let mut found: Vec<u64> = Vec::new();
    let mut events = Vec::with_capacity(4096);
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        events.clear();
        let count =
            epoll::wait(epoll, spare_capacity(&mut events), Some(&now)).expect("epoll_wait");
        if count == 0 {
            break;
        }
        found.extend(events.iter().map(|event| event.data.u64()));
    }
    found.sort_unstable();
    check!(found == ready.collect::<Vec<_>>(), "other events than those that were ready");
}

pub(super) fn live(cx: &mut Context, size: usize) {
    super::limit::raise_descriptors();
    let epoll = epoll::create(CreateFlags::CLOEXEC).expect("epoll_create1");
    let files: Vec<OwnedFd> = (0..size).map(|number| event(number % 3 == 0)).collect();
    (0..).zip(&files).for_each(|(data, file)| add(&epoll, file.as_fd(), data));
    cx.ready_and_wait();
    verify(&epoll, (0..size as u64).step_by(3));
}

pub(super) fn stale(cx: &mut Context, size: usize) {
    super::limit::raise_descriptors();
    let epoll = epoll::create(CreateFlags::CLOEXEC).expect("epoll_create1");
    let files: Vec<OwnedFd> =
        (0..size.div_ceil(NUMBERS.len())).map(|number| event(number % 3 == 0)).collect();
    for data in 0..size {
        let file = &files[data / NUMBERS.len()];
        let number = NUMBERS.start + (data % NUMBERS.len()) as i32;
        dup2(file.as_raw_fd(), number);
        // SAFETY: the number was just opened, and is closed below.
        add(&epoll, unsafe { BorrowedFd::borrow_raw(number) }, data as u64);
        if data + NUMBERS.len() >= size {
            close(number);
        }
    }
    cx.ready_and_wait();
    verify(
        &epoll,
        (0..size as u64).filter(|data| (*data as usize / NUMBERS.len()).is_multiple_of(3)),
    );
}
