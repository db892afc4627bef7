//! Userfaultfds about no memory yet: not in use, in use, of a process that has ended, in flight, watched by
//! epolls.
//!
//! Verified: flags; what can be asked of each; what the epolls report.
//! CRIU: refuses.

use std::os::fd::{AsFd, AsRawFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fs::fcntl_getfl;
use rustix::io::fcntl_getfd;
use rustix::net::SocketType;

use crate::sys::userfault::{MISSING, Userfaultfd, WP_UNPOPULATED, no_userfaultfd};
use crate::sys::{Area, PAGE};
use crate::unix::talk;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).missing(no_userfaultfd).faults();

fn run(cx: &mut Context) {
    let user = cx.user();
    let new = |flags| Userfaultfd::new(user, flags).expect("userfaultfd");
    let area = Area::anonymous(4 * PAGE);
    let (waits, plain) = (new(libc::O_CLOEXEC), new(libc::O_NONBLOCK));
    let in_use = Userfaultfd::ready(user, WP_UNPOPULATED);
    let (own, other) = talk::pair(SocketType::DGRAM);
    let child = cx.fork(|_| talk::send(&other, b"x", &[Userfaultfd::ready(user, 0).as_fd()]));
    cx.reap(child);
    let ended = talk::hear(&own, 1, b"x", "what the child sends").rights.remove(0);
    let ended = Userfaultfd::from_fd(ended);
    let flight = Userfaultfd::ready(user, 0);
    talk::send(&own, b"y", &[flight.as_fd()]);
    drop(flight);
    let all = [&waits, &plain, &in_use, &ended];
    let flags = || all.map(|file| (fcntl_getfl(file), fcntl_getfd(file)));
    let before = flags();
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll_create1");
    for file in all {
        let data = EventData::new_u64(file.as_fd().as_raw_fd() as u64);
        epoll::add(&epoll, file, data, EventFlags::IN).expect("epoll_ctl");
    }
    let reported = || {
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 8];
        let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let (events, _) = epoll::wait(&epoll, &mut events, Some(&zero)).expect("epoll_wait");
        let mut found: Vec<_> = events.iter().map(|e| (e.data.u64(), { e.flags }.bits())).collect();
        found.sort_unstable();
        found
    };
    let events = reported();

    cx.ready_and_wait();

    check_eq!(flags(), before, "flags");
    check_eq!(reported(), events, "what the epoll reports");
    for file in [&in_use, &ended] {
        let again = file.begin(0).map(|_| ()).map_err(|error| error.raw_os_error());
        check_eq!(again, Err(Some(libc::EINVAL)), "what is in use already");
    }
    let zero = ended.zero(area).map_err(|error| error.raw_os_error());
    check_eq!(zero, Err(Some(libc::ESRCH)), "of a process that has ended");
    let register = |file: &Userfaultfd| {
        file.register(area, MISSING).map_err(|error| error.raw_os_error().unwrap_or(0))
    };
    check_eq!(register(&plain), Err(libc::EINVAL), "what is not in use");
    for file in [&waits, &plain] {
        file.begin(0).expect("UFFDIO_API");
    }
    let flight = talk::hear(&other, 1, b"y", "what is in flight").rights.remove(0);
    let flight = Userfaultfd::from_fd(flight);
    check_eq!(register(&flight), Ok(0), "what was in flight");
    let busy = register(&in_use);
    check_eq!(busy, Err(libc::EBUSY), "what another has");
    flight.zero(area).expect("UFFDIO_ZEROPAGE");
    area.verify_zero("pages of zeros");
}
