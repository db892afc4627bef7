//! `epoll-target KIND ITEMS FILES`: a program with a large epoll, to be measured by
//! [`epoll_bench`](crate::epoll_bench).
//!
//! *live*: every item has an eventfd of its own. *stale*: few eventfds under ten thousand numbers
//! each, none of them open any more. Every third item is edge-triggered and consumed, every fourth
//! is pending.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The first number of a stale key, and how many follow.
const FIRST: i32 = 100;
const NUMBERS: u32 = 10_000;

/// Sets all up, tells in `out` what the bare `epoll_ctl` calls took in microseconds, and waits.
pub(crate) fn run(kind: &str, items: &str, files: &str, out: &str) -> io::Result<ExitCode> {
    let number = |text: &str| text.parse().map_err(io::Error::other);
    let (items, files): (u32, u32) = (number(items)?, number(files)?);
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let event = |_| eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    let files: Vec<OwnedFd> = (0..files).map(event).collect::<Result<_, _>>()?;
    let mut bare = Duration::ZERO;
    for item in 0..items {
        let data = EventData::new_u64(item.into());
        if kind == "live" {
            let began = Instant::now();
            epoll::add(&set, &files[item as usize], data, mask(item))?;
            bare += began.elapsed();
        } else {
            let number = FIRST + (item % NUMBERS) as i32;
            let copy = fcntl_dupfd_cloexec(&files[(item / NUMBERS) as usize], number)?;
            let began = Instant::now();
            epoll::add(&set, &copy, data, mask(item))?;
            bare += began.elapsed();
        }
    }
    let mut events: Vec<epoll::Event> = Vec::with_capacity(1 + items as usize / 3);
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    epoll::wait(&set, spare_capacity(&mut events), Some(&at_once))?;
    drop(events);
    fs::write(Path::new(out), bare.as_micros().to_string())?;
    loop {
        std::thread::park();
    }
}

fn mask(item: u32) -> EventFlags {
    let edge = if item.is_multiple_of(3) { EventFlags::ET } else { EventFlags::empty() };
    let condition = if item.is_multiple_of(3) || item.is_multiple_of(4) {
        EventFlags::IN
    } else {
        EventFlags::PRI
    };
    edge | condition
}
