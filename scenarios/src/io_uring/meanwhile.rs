//! Requests that complete all the time, also while the tree stands still: each reads a timer, to a page that
//! was not there before.
//!
//! Verified: each completes once, with its bytes.
//! CRIU: refuses.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::sys::io_uring::{READ, Request, Ring};
use crate::sys::{Area, PAGE};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .differs(&[("*/fd/*/info", "timers expire")])
    .faults()
    .missing(super::missing);

const COUNT: usize = 128;
/// How far the timers are from each other.
const STEP: Duration = Duration::from_millis(8);

fn timer(number: usize) -> OwnedFd {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::empty());
    let timer = timer.expect("timerfd_create");
    let it_value = (STEP * number as u32).try_into().expect("a short time");
    let time = Itimerspec { it_value, it_interval: Duration::ZERO.try_into().expect("no time") };
    timerfd_settime(timer.as_fd(), TimerfdTimerFlags::empty(), &time).expect("timerfd_settime");
    timer
}

fn run(cx: &mut Context) {
    let ring = Ring::setup(COUNT as u32, 0, 0).expect("io_uring_setup");
    let timers: Vec<_> = (1..=COUNT).map(timer).collect();
    let pages = Area::anonymous(COUNT * PAGE);
    for (number, timer) in timers.iter().enumerate() {
        ring.push(&Request {
            operation: READ,
            fd: timer.as_raw_fd(),
            address: (pages.start() + number * PAGE) as u64,
            len: 8,
            offset: u64::MAX,
            data: number as u64,
            ..Request::default()
        });
    }
    check_eq!(ring.enter(COUNT as u32, 0).ok(), Some(COUNT as i64), "requests taken");

    cx.ready_and_wait();

    let mut completed = BTreeSet::new();
    while completed.len() < COUNT {
        let Some(completion) = ring.next() else {
            check_eq!(ring.enter(0, 1).ok(), Some(0), "the wait");
            continue;
        };
        check_eq!((completion.result, completion.flags), (8, 0), "a completion");
        let number = completion.data as usize;
        check!(completed.insert(number), "{number} has completed twice");
        let expirations = pages.pages(number, 1).pointer().cast::<u64>();
        // SAFETY: the page is mapped, and nothing is read there any more.
        let expirations = unsafe { expirations.read_volatile() };
        check_eq!(expirations, 1, "bytes of a completion");
    }
    check_eq!(ring.enter(0, 0).ok(), Some(0), "a look");
    check_eq!(ring.next(), None, "one more");
}
