//! An epoll with an item on a signalfd, which two processes have: nothing tells whose signals those are.
//!
//! Verified: the dump is refused, and the item works.
//! CRIU: takes them for those of one of the two.

use std::os::fd::{FromRawFd, OwnedFd};

use rustix::event::epoll;

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).refused("watches signals");

fn run(cx: &mut Context) {
    let mask = sys::sigset(&[libc::SIGUSR1]);
    sys::block(mask);
    // SAFETY: the mask lives over the call and has the eight bytes stated; the result is nobody else's.
    let signals = unsafe {
        let fd = libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, 8usize, 0);
        OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor"))
    };
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll_create1");
    epoll::add(&set, &signals, epoll::EventData::new_u64(1), epoll::EventFlags::IN)
        .expect("epoll_ctl");
    sys::dup2(std::os::fd::AsRawFd::as_raw_fd(&set), 42);
    sys::close(std::os::fd::IntoRawFd::into_raw_fd(set));
    let child = cx.fork(|cx| {
        cx.arrive(std::process::id() as i32);
        cx.wait_go();
    });
    cx.await_arrival(child);

    cx.ready_and_wait();

    cx.reap(child);
    sys::kill(std::process::id() as i32, libc::SIGUSR1);
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: room for one event.
    let count = unsafe { libc::epoll_wait(42, &raw mut event, 1, 0) };
    check_eq!((count, { event.u64 }), (1, 1), "what the epoll reports");
}
