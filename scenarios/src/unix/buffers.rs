//! Streams written to in pieces of many sizes until they took no more, or nearly: in both directions, read in
//! part, with descriptors and a byte out of band among them, with a send buffer that was changed meanwhile.
//!
//! Verified: by `SIOCOUTQ`, `poll` and epoll, level-triggered and by an edge that was reported: each end can be
//! written to again when just as much is read as in a twin that nobody disturbed.
//! CRIU: makes one buffer of all that was written.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::net::{RecvFlags, SendFlags};

use super::talk::{
    STREAM, accept, connected, hidden, listening, pair, ready, receive, send, set_option,
};

use crate::epoll::watch::{EDGE, Epoll, OUT};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

/// Two ends, and what watches whether they can be written to.
struct Stream {
    ends: [OwnedFd; 2],
    level: Epoll,
    edge: Epoll,
}

/// `SIOCOUTQ`: memory of what was not read yet.
pub(crate) fn charged(end: &OwnedFd) -> i32 {
    let mut bytes: i32 = -1;
    // SAFETY: the kernel writes an int.
    let result = unsafe { libc::ioctl(end.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    check_eq!(result, 0, "SIOCOUTQ");
    bytes
}

/// Writes pieces of these sizes in turn until nothing fits any more.
fn fill(end: &OwnedFd, sizes: &[usize]) {
    let bytes = vec![b'a'; 1 << 20];
    for &size in sizes.iter().cycle() {
        match rustix::net::send(end, &bytes[..size], SendFlags::empty()) {
            Ok(sent) if sent == size => {}
            _ => return,
        }
    }
}

fn skip(end: &OwnedFd, bytes: usize) {
    let got = receive(end, bytes, RecvFlags::empty()).map(|got| got.bytes.len());
    check_eq!(got, Ok(bytes), "reading a part");
}

/// What is done with one stream.
const WAYS: usize = 10;

fn stream(way: usize, (one, other): (OwnedFd, OwnedFd)) -> Stream {
    let [one, other] = [one, other];
    match way {
        0 => fill(&one, &[1]),
        // The first is read in part, others are whole.
        1 => {
            fill(&one, &[3000, 10, 800]);
            skip(&other, 4000);
        }
        // Still to be written to, for a while.
        2 => (0..60).for_each(|_| send(&one, b"few", &[])),
        // One, read in part.
        3 => {
            send(&one, &[b'a'; 30_000], &[]);
            skip(&other, 29_000);
        }
        // Divided by the kernel, as the send buffer had it.
        4 => {
            set_option(&one, libc::SO_SNDBUF, 10_000);
            send(&one, &[b'a'; 15_000], &[]);
            set_option(&one, libc::SO_SNDBUF, 150_000);
            fill(&one, &[50_000, 17_280]);
        }
        // Made smaller than what is there.
        5 => {
            fill(&one, &[500]);
            set_option(&one, libc::SO_SNDBUF, 30_000);
        }
        6 => {
            fill(&one, &[7, 70, 700]);
            fill(&other, &[4096]);
            skip(&other, 800);
            skip(&one, 5000);
        }
        // After a buffer that is not full, as many bytes as fit into whole ones.
        7 => {
            send(&one, &[b'a'; 17_280], &[]);
            send(&one, &[b'a'; 146_176], &[]);
        }
        8 => {
            let null = std::fs::File::open("/dev/null").expect("it is there");
            for _ in 0..20 {
                send(&one, b"without", &[]);
                send(&one, &[b'a'; 2000], &[null.as_fd()]);
                send(&one, b"and again", &[]);
            }
            skip(&other, 3);
        }
        _ => {
            fill(&other, &[5]);
            for _ in 0..100 {
                send(&one, b"before", &[]);
            }
            check_eq!(rustix::net::send(&one, b"!", SendFlags::OOB), Ok(1), "out of band");
            for _ in 0..50 {
                send(&one, b"after", &[]);
            }
        }
    }
    let (level, edge) = (Epoll::new(), Epoll::new());
    for (end, data) in [&one, &other].into_iter().zip(0..) {
        level.add(end, OUT, data);
        edge.add(end, OUT | EDGE, data);
    }
    edge.take();
    Stream { ends: [one, other], level, edge }
}

impl Stream {
    /// What can be told of it.
    fn state(&self) -> ([i32; 2], [bool; 2], Vec<(u64, u32)>) {
        let ends = || self.ends.each_ref();
        (
            ends().map(charged),
            ends().map(|end| ready(end).contains(PollFlags::OUT)),
            self.level.take(),
        )
    }

    /// Reads at one end, and tells with how many descriptors what came.
    fn read(&self, end: usize, bytes: usize) -> Option<(Vec<u8>, usize)> {
        let got = receive(&self.ends[end], bytes, RecvFlags::empty()).ok();
        got.map(|got| (got.bytes, got.rights.len()))
    }
}

fn run(cx: &mut Context) {
    let address = hidden(cx, "listener");
    let listener = listening(STREAM, &address, 9);
    let ends = |way| match way % 3 {
        1 => {
            let client = connected(STREAM, &address);
            (client, accept(&listener).expect("accept"))
        }
        2 => {
            let client = connected(STREAM, &address);
            (accept(&listener).expect("accept"), client)
        }
        _ => pair(STREAM),
    };
    let all: Vec<_> = (0..WAYS).map(|way| stream(way, ends(way))).collect();

    cx.ready_and_wait();

    for (way, found) in all.iter().enumerate() {
        let twin = stream(way, ends(way));
        check_eq!(found.edge.take(), [], "edges that were reported, of stream {way}");
        check_eq!(found.state(), twin.state(), "stream {way}");
        for (end, bytes) in [(1, 301), (0, 777)] {
            for step in 0.. {
                let [got, expected] = [found, &twin].map(|stream| stream.read(end, bytes));
                let [now, then] = [found, &twin].map(|stream| (stream.edge.take(), stream.state()));
                let place = format!("stream {way} after step {step} at end {end}");
                check!(got == expected, "what was read of {place}");
                check_eq!(now, then, "{place}");
                if expected.is_none() || now != then {
                    break;
                }
            }
        }
    }
}
