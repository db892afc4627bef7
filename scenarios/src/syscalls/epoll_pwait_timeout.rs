//! `epoll_pwait`, with a signal mask, on an eventfd that stays zero, with a timeout.
//!
//! Verified: it returns 0, no earlier than asked and not as if begun anew.
//! CRIU: returns `EINTR`.

use std::os::fd::AsRawFd;

use rustix::event::epoll;
use rustix::event::{EventfdFlags, eventfd};

use super::blocking::{WAIT, for_a_time, outcome};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).needs(&["epoll"]);

fn run(cx: &mut Context) {
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll_create1");
    let fd = eventfd(0, EventfdFlags::empty()).expect("eventfd");
    epoll::add(&set, &fd, epoll::EventData::new_u64(5), epoll::EventFlags::IN).expect("epoll_ctl");
    for_a_time(cx, libc::SYS_epoll_pwait, &Ok(0), move || {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 4];
        let mask = sys::sigset(&[libc::SIGUSR1]);
        // SAFETY: room for four events; all lives over the call.
        outcome(unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait,
                set.as_raw_fd(),
                events.as_mut_ptr(),
                4,
                WAIT.as_millis() as i32,
                &raw const mask,
                8usize,
            )
        })
    });
}
