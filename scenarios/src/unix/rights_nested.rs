//! Sockets in flight, through which others are in flight, and an epoll and a pipe at the end.
//!
//! Verified: all arrive, one by one; the pair at the bottom is connected; the epoll watches what it watched.
//! CRIU: works, but for the epoll.

use std::os::fd::AsFd;

use rustix::event::epoll;
use rustix::io::write;
use rustix::pipe::pipe;

use super::talk::{DATAGRAM, STREAM, hear, pair, send, talk};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn run(cx: &mut Context) {
    let (kept, outer) = pair(STREAM);
    let (middle, inner) = pair(DATAGRAM);
    let (one, other) = pair(STREAM);
    let (reader, writer) = pipe().expect("pipe");
    let watch = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    let data = epoll::EventData::new_u64(77);
    epoll::add(&watch, &reader, data, epoll::EventFlags::IN).expect("add");
    check_eq!(write(&writer, b"x"), Ok(1), "write");
    send(&one, b"at the bottom", &[watch.as_fd(), reader.as_fd(), writer.as_fd()]);
    send(&middle, b"a pair", &[one.as_fd(), other.as_fd()]);
    send(&kept, b"a socket", &[inner.as_fd()]);
    drop((middle, inner, one, other, reader, writer, watch));

    cx.ready_and_wait();

    let mut got = hear(&outer, 100, b"a socket", "the outer message").rights;
    check_eq!(got.len(), 1, "descriptors in the outer one");
    let Some(inner) = got.pop() else { return };
    let mut got = hear(&inner, 100, b"a pair", "the middle message").rights;
    check_eq!(got.len(), 2, "descriptors in the middle one");
    let (Some(other), Some(one)) = (got.pop(), got.pop()) else { return };
    let mut got = hear(&other, 100, b"at the bottom", "the inner message").rights;
    check_eq!(got.len(), 3, "descriptors in the inner one");
    let (Some(_writer), Some(_reader), Some(watch)) = (got.pop(), got.pop(), got.pop()) else {
        return;
    };
    talk(&one, &other);
    let mut events = Vec::with_capacity(4);
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    let count = epoll::wait(&watch, rustix::buffer::spare_capacity(&mut events), Some(&now));
    check_eq!(count, Ok(1), "events");
    check_eq!(events.first().map(|event| event.data.u64()), Some(77), "what it watches");
}
