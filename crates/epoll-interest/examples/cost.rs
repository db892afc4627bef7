//! What reading and rebuilding an epoll costs beside the bare `epoll_ctl`
//! calls for the same items.
//!
//! `cargo run --release -p epoll-interest --example cost`
//!
//! *live*: every item has an eventfd of its own, open under its number.
//! *stale*: few eventfds under many numbers, none of them open any more.
//! Every third item is edge-triggered and consumed, every fourth pending.

#![allow(clippy::unwrap_used, reason = "a measurement that fails is no measurement")]

use std::collections::HashMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use epoll_interest::{Events, FdNumber, Insertion, Inspector, Rebuild, Wanted, insert};
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

/// The first number of a stale key; as many follow as there may be.
const FIRST: u32 = 100;

fn main() {
    let began = Instant::now();
    let mut inspector = Inspector::new().unwrap();
    println!("set-up {:.1} ms", ms(began.elapsed()));
    println!(
        "{:>6} {:>8} {:>6} | {:>8} {:>7} {:>9} {:>7} {:>9} | {:>6} {:>6}",
        "kind", "items", "files", "bare", "fdinfo", "get", "queues", "rebuild", "get/b", "reb/b"
    );
    let numbers: u32 = 10_000;
    for (kind, items, files) in [
        ("live", 1_000, 1_000),
        ("live", 5_000, 5_000),
        ("live", 15_000, 15_000),
        ("stale", 10_000, 1),
        ("stale", 40_000, 4),
        ("stale", 160_000, 16),
        ("stale", 1_000_000, 100),
    ] {
        let numbers = if kind == "live" { 1 } else { numbers };
        measure(&mut inspector, kind, items, files, numbers);
    }
}

fn measure(inspector: &mut Inspector, kind: &str, items: u32, files: u32, numbers: u32) {
    let targets: Vec<OwnedFd> = (0..files)
        .map(|_| eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap())
        .collect();
    let old = new_epoll();
    let add: Vec<_> = (0..items)
        .map(|item| {
            let file = targets[(item / numbers) as usize].as_fd();
            let fd = match kind {
                "live" => std::os::fd::AsRawFd::as_raw_fd(&file).unsigned_abs(),
                _ => FIRST + item % numbers,
            };
            let edge = if item % 3 == 0 { Events::ET } else { Events::empty() };
            let wanted = if item % 3 == 0 || item % 4 == 0 { Events::IN } else { Events::PRI };
            Insertion { file, fd: FdNumber::from_raw(fd), events: wanted | edge, data: item.into() }
        })
        .collect();
    let bare = bare(&add);
    insert(old.as_fd(), &add).unwrap();
    let mut events = Vec::with_capacity(items as usize / 2);
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    epoll::wait(&old, spare_capacity(&mut events), Some(&now)).unwrap();

    let began = Instant::now();
    let number = std::os::fd::AsRawFd::as_raw_fd(&old);
    let text = std::fs::read(format!("/proc/self/fdinfo/{number}")).unwrap();
    let fdinfo = began.elapsed();
    drop(text);

    let began = Instant::now();
    let fds: Vec<_> = targets.iter().map(|target| target.as_fd()).collect();
    let keys = inspector.file_keys(&fds).unwrap();
    let known: HashMap<_, usize> = keys.into_iter().zip(0..).collect();
    let found = inspector.get_events(old.as_fd()).unwrap();
    let queues = Instant::now();
    assert!(inspector.shared_queues(&[&found]).unwrap().is_empty());
    let queues = queues.elapsed();
    let interest = found.interest.try_map(|item| known.get(&item.file).copied().ok_or(())).unwrap();
    let get = began.elapsed() - queues;
    assert_eq!(interest.items.len(), items as usize);

    let new = new_epoll();
    let expected = interest.clone();
    let began = Instant::now();
    let rebuild = Rebuild::new(vec![Wanted { epoll: targets.len(), interest }]).unwrap();
    let fd = |file: &usize| -> Option<BorrowedFd<'_>> {
        Some(targets.get(*file).unwrap_or(&new).as_fd())
    };
    rebuild.prepare(fd).unwrap();
    rebuild.finish(fd).unwrap();
    let rebuilt = began.elapsed();
    let again = inspector.get_events(new.as_fd()).unwrap().interest;
    let data = |of: &epoll_interest::Interest<_>| -> Vec<u64> {
        of.pending.iter().map(|&item| of.items[item].data).collect()
    };
    let again = again.try_map(|item| known.get(&item.file).copied().ok_or(())).unwrap();
    assert_eq!(data(&again), data(&expected), "the same pending in the same order");

    println!(
        "{kind:>6} {items:>8} {files:>6} | {:>8.1} {:>7.1} {:>9.1} {:>7.1} {:>9.1} | {:>6.2} {:>6.2}",
        ms(bare),
        ms(fdinfo),
        ms(get),
        ms(queues),
        ms(rebuilt),
        get.as_secs_f64() / bare.as_secs_f64(),
        rebuilt.as_secs_f64() / bare.as_secs_f64(),
    );
}

/// The same number of `EPOLL_CTL_ADD`, each under the number the file has, into
/// as many epolls as that takes.
fn bare(add: &[Insertion<'_>]) -> Duration {
    let mut seen: HashMap<i32, usize> = HashMap::new();
    let turns: Vec<usize> = add
        .iter()
        .map(|it| {
            let turn = seen.entry(std::os::fd::AsRawFd::as_raw_fd(&it.file)).or_insert(0);
            *turn += 1;
            *turn - 1
        })
        .collect();
    let epolls: Vec<_> = (0..=turns.iter().copied().max().unwrap()).map(|_| new_epoll()).collect();
    let began = Instant::now();
    for (it, turn) in add.iter().zip(turns) {
        let flags = epoll::EventFlags::from_bits_retain(it.events.bits());
        epoll::add(&epolls[turn], it.file, epoll::EventData::new_u64(it.data), flags).unwrap();
    }
    began.elapsed()
}

fn new_epoll() -> OwnedFd {
    epoll::create(epoll::CreateFlags::CLOEXEC).unwrap()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
