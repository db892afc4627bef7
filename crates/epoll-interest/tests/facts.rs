//! The kernel behaviour all of this rests on, as told in
//! `docs/epoll-kernel.md`. A kernel that breaks one of these breaks the crate.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use epoll_interest::{Events, FdNumber, Insertion, fdinfo, insert};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::io::{Errno, dup, read, write};
use rustix::pipe::{PipeFlags, pipe_with};

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

fn new_epoll() -> OwnedFd {
    epoll::create(epoll::CreateFlags::CLOEXEC).unwrap()
}

fn event(count: u32) -> OwnedFd {
    eventfd(count, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

fn add(epoll: &OwnedFd, target: &OwnedFd, data: u64, flags: EventFlags) {
    epoll::add(epoll, target, EventData::new_u64(data), flags).unwrap();
}

fn modify(epoll: &OwnedFd, target: &OwnedFd, data: u64, flags: EventFlags) {
    epoll::modify(epoll, target, EventData::new_u64(data), flags).unwrap();
}

fn wait(epoll: &OwnedFd, most: usize) -> Vec<u64> {
    let mut events = Vec::with_capacity(most);
    epoll::wait(epoll, spare_capacity(&mut events), Some(&NOW)).unwrap();
    events.iter().map(|event: &epoll::Event| event.data.u64()).collect()
}

fn listed(epoll: &OwnedFd) -> Vec<(u32, Events, u64)> {
    let path = format!("/proc/thread-self/fdinfo/{}", epoll.as_raw_fd());
    let entries = fdinfo::parse(&std::fs::read(path).unwrap()).unwrap();
    entries.into_iter().map(|it| (it.fd.as_raw(), it.events, it.data)).collect()
}

fn under(file: BorrowedFd<'_>, fd: u32, events: Events) -> Insertion<'_> {
    Insertion { file, fd: FdNumber::from_raw(fd), events, data: fd.into() }
}

#[test]
fn an_item_outlives_the_number_it_was_added_under() {
    let (epoll, first) = (new_epoll(), event(1));
    let second = dup(&first).unwrap();
    add(&epoll, &first, 1, EventFlags::IN);
    let number = first.as_raw_fd().unsigned_abs();
    drop(first);
    assert_eq!(listed(&epoll), [(number, Events::IN | Events::ERR | Events::HUP, 1)]);
    assert_eq!(wait(&epoll, 4), [1]);
    drop(second);
    assert_eq!(listed(&epoll), []);
}

#[test]
fn an_item_outlives_the_table_it_was_added_from() {
    let (epoll, file) = (new_epoll(), event(1));
    insert(epoll.as_fd(), &[under(file.as_fd(), 7777, Events::IN)]).unwrap();
    assert_eq!(listed(&epoll), [(7777, Events::IN | Events::ERR | Events::HUP, 7777)]);
    assert_eq!(wait(&epoll, 4), [7777]);
}

#[test]
fn a_number_that_is_taken_stays_what_it_is() {
    let (epoll, file, other) = (new_epoll(), event(1), event(0));
    let taken = other.as_raw_fd().unsigned_abs();
    let itself = epoll.as_raw_fd().unsigned_abs();
    let items = [taken, itself, 0, 1, 2].map(|fd| under(file.as_fd(), fd, Events::IN));
    insert(epoll.as_fd(), &items).unwrap();
    let mut numbers: Vec<_> = listed(&epoll).into_iter().map(|(fd, ..)| fd).collect();
    numbers.sort_unstable();
    let mut expected = [taken, itself, 0, 1, 2];
    expected.sort_unstable();
    assert_eq!(numbers, expected);
    write(&other, &5_u64.to_ne_bytes()).unwrap();
    let mut count = [0; 8];
    read(&other, &mut count).unwrap();
    assert_eq!(u64::from_ne_bytes(count), 5);
}

#[test]
fn files_can_trade_numbers() {
    let (epoll, files) = (new_epoll(), [event(1), event(1), event(1)]);
    let number = |file: usize| files[file % 3].as_raw_fd().unsigned_abs();
    let items: Vec<_> = (0..3)
        .flat_map(|shift| (0..3).map(move |file| (file, file + shift)))
        .map(|(file, as_file)| under(files[file].as_fd(), number(as_file), Events::IN))
        .collect();
    insert(epoll.as_fd(), &items).unwrap();
    assert_eq!(listed(&epoll).len(), 9, "each file under each number");
}

#[test]
fn what_is_there_already_is_refused_and_left_alone() {
    let (epoll, file) = (new_epoll(), event(1));
    add(&epoll, &file, 1, EventFlags::IN | EventFlags::ET);
    assert_eq!(wait(&epoll, 4), [1]);
    let again = epoll::add(&epoll, &file, EventData::new_u64(2), EventFlags::OUT);
    assert_eq!(again, Err(Errno::EXIST));
    assert_eq!(wait(&epoll, 4), [], "the consumed edge stays consumed");
}

#[test]
fn fdinfo_tells_a_fired_one_shot_but_no_consumed_edge() {
    let (epoll, once, edge) = (new_epoll(), event(1), event(1));
    add(&epoll, &once, 1, EventFlags::IN | EventFlags::ONESHOT);
    add(&epoll, &edge, 2, EventFlags::IN | EventFlags::ET);
    let mask = |data: u64| listed(&epoll).iter().find(|it| it.2 == data).unwrap().1;
    let pending = mask(2);
    assert_eq!(wait(&epoll, 4), [1, 2]);
    assert_eq!(mask(1), Events::ONESHOT);
    assert_eq!(mask(2), pending);
}

#[test]
fn modify_makes_pending_what_is_ready_and_never_the_reverse() {
    let (epoll, a, b) = (new_epoll(), event(1), event(1));
    let edge = EventFlags::IN | EventFlags::ET;
    add(&epoll, &a, 1, edge);
    add(&epoll, &b, 2, edge);
    assert_eq!(wait(&epoll, 4), [1, 2]);
    modify(&epoll, &b, 2, edge);
    modify(&epoll, &a, 1, edge);
    assert_eq!(wait(&epoll, 4), [2, 1], "in the order of the calls");
    modify(&epoll, &a, 1, EventFlags::OUT | edge);
    modify(&epoll, &b, 2, edge);
    read(&a, &mut [0; 8]).unwrap();
    modify(&epoll, &a, 1, edge);
    write(&a, &1_u64.to_ne_bytes()).unwrap();
    assert_eq!(wait(&epoll, 4), [1, 2], "it kept its place while it was not ready");
}

#[test]
fn level_triggered_items_go_round() {
    let (epoll, a, b, c) = (new_epoll(), event(1), event(1), event(1));
    for (data, file) in [(1, &a), (2, &b), (3, &c)] {
        add(&epoll, file, data, EventFlags::IN);
    }
    assert_eq!(wait(&epoll, 2), [1, 2]);
    assert_eq!(wait(&epoll, 3), [3, 1, 2]);
}

#[test]
fn a_file_tells_the_last_added_first_and_exclusive_ones_in_order_at_the_end() {
    let (epoll, file) = (new_epoll(), event(0));
    let edge = Events::IN | Events::ET;
    let items = [
        under(file.as_fd(), 5001, edge | Events::EXCLUSIVE),
        under(file.as_fd(), 5002, edge),
        under(file.as_fd(), 5003, edge | Events::EXCLUSIVE),
        under(file.as_fd(), 5004, edge),
    ];
    insert(epoll.as_fd(), &items).unwrap();
    write(&file, &1_u64.to_ne_bytes()).unwrap();
    // The first exclusive item that takes the event is the last to be told,
    // if somebody waits for it; nobody does.
    let told = wait(&epoll, 8);
    assert_eq!(told[..2], [5004, 5002]);
    assert_eq!(told[2], 5001);
}

#[test]
fn nobody_can_modify_an_exclusive_item_or_nest_one() {
    let (epoll, inner, file) = (new_epoll(), new_epoll(), event(1));
    let exclusive = EventFlags::IN | EventFlags::EXCLUSIVE;
    add(&epoll, &file, 1, exclusive);
    for flags in [EventFlags::IN, exclusive] {
        let result = epoll::modify(&epoll, &file, EventData::new_u64(1), flags);
        assert_eq!(result, Err(Errno::INVAL));
    }
    let result = epoll::add(&epoll, &inner, EventData::new_u64(2), exclusive);
    assert_eq!(result, Err(Errno::INVAL));
    let once = exclusive | EventFlags::ONESHOT;
    let other = event(1);
    assert_eq!(epoll::add(&epoll, &other, EventData::new_u64(3), once), Err(Errno::INVAL));
}

#[test]
fn five_epolls_nest_and_no_more() {
    let chain: Vec<_> = (0..6).map(|_| new_epoll()).collect();
    let nest = |outer: usize| {
        epoll::add(&chain[outer], &chain[outer - 1], EventData::new_u64(0), EventFlags::IN)
    };
    assert_eq!([1, 2, 3, 4, 5].map(nest), [Ok(()), Ok(()), Ok(()), Ok(()), Err(Errno::LOOP)]);
}

#[test]
fn asking_an_epoll_drops_what_is_pending_and_not_ready() {
    let nonblock = PipeFlags::NONBLOCK | PipeFlags::CLOEXEC;
    let (epoll, (reader, writer), later) = (new_epoll(), pipe_with(nonblock).unwrap(), event(0));
    add(&epoll, &reader, 1, EventFlags::IN);
    add(&epoll, &later, 2, EventFlags::IN);
    for asked in [false, true] {
        write(&writer, &[0]).unwrap();
        read(&reader, &mut [0]).unwrap();
        if asked {
            poll(&mut [PollFd::new(&epoll, PollFlags::IN)], Some(&NOW)).unwrap();
        }
        write(&later, &1_u64.to_ne_bytes()).unwrap();
        write(&writer, &[0]).unwrap();
        let expected = if asked { [2, 1] } else { [1, 2] };
        assert_eq!(wait(&epoll, 4), expected);
        read(&reader, &mut [0]).unwrap();
        read(&later, &mut [0; 8]).unwrap();
        assert_eq!(wait(&epoll, 4), []);
    }
}
