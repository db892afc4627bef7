//! `epoll_pwait2`, with a signal mask, without end.
//!
//! Verified: it stays blocked until the eventfd is written to, and then returns 1, with its data; blocked signals are as before.
//! CRIU: returns `EINTR`.

use std::os::fd::AsRawFd;

use rustix::event::epoll;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::write;

use super::blocking::{outcome, until_woken};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).needs(&["epoll"]);

fn run(cx: &mut Context) {
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll_create1");
    let fd = eventfd(0, EventfdFlags::empty()).expect("eventfd");
    epoll::add(&set, &fd, epoll::EventData::new_u64(1 << 63 | 5), epoll::EventFlags::IN)
        .expect("epoll_ctl");
    let wait = move || {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 4];
        let mask = sys::sigset(&[libc::SIGUSR1]);
        // SAFETY: room for four events; all lives over the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                set.as_raw_fd(),
                events.as_mut_ptr(),
                4,
                0,
                &raw const mask,
                8usize,
            )
        };
        (outcome(result), events[0].u64)
    };
    until_woken(cx, libc::SYS_epoll_pwait2, &(Ok(1), 1 << 63 | 5), wait, |_| {
        check_eq!(write(&fd, &1u64.to_ne_bytes()), Ok(8), "write");
    });
}
