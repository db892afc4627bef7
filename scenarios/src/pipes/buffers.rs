//! Pipes written to in pieces of many sizes until they took no more, or nearly, and read in part; one that bytes
//! were spliced into.
//!
//! Verified: by `poll`, and by epoll, level-triggered and by an edge that was reported: each can be written to
//! again when just as much is read as in a twin that nobody disturbed, and takes as much.
//! CRIU: makes full buffers of all that was written.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{read, write};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

use crate::epoll::watch::{EDGE, Epoll, OUT};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

/// A pipe, and what watches whether it can be written to.
struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    level: Epoll,
    edge: Epoll,
}

fn pair() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("pipe2")
}

/// Writes pieces of these sizes in turn until nothing fits any more, or `most` pieces; gives the
/// number of bytes.
fn fill(writer: &OwnedFd, sizes: &[usize], most: usize) -> usize {
    let bytes = [b'a'; 8192];
    let pieces = sizes.iter().cycle().take(most);
    pieces.map_while(|&size| write(writer, &bytes[..size]).ok()).sum()
}

fn skip(reader: &OwnedFd, len: usize) {
    check_eq!(read(reader, &mut vec![0; len][..]), Ok(len), "reading a part");
}

/// What is done with one pipe.
const WAYS: usize = 9;

fn made(way: usize) -> Pipe {
    let (reader, writer) = pair();
    match way {
        0 => drop(fill(&writer, &[3000], 100)),
        1 => drop(fill(&writer, &[1500], 100)),
        2 => drop(fill(&writer, &[2049, 4096, 1], 100)),
        // Still to be written to.
        3 => drop(fill(&writer, &[3000], 11)),
        // The first is read in part, or whole.
        4 => {
            fill(&writer, &[3000], 100);
            skip(&reader, 2999);
        }
        5 => {
            fill(&writer, &[2500, 3500], 100);
            skip(&reader, 2500);
        }
        // Each is a buffer, however short.
        6 => {
            let (from, into) = pair();
            for _ in 0..16 {
                write(&into, b"few").expect("write");
                splice(&from, None, &writer, None, 3, SpliceFlags::NONBLOCK).expect("splice");
            }
        }
        7 => drop(fill(&writer, &[1], 100)),
        _ => drop(fill(&writer, &[4096], 100)),
    }
    let (level, edge) = (Epoll::new(), Epoll::new());
    level.add(&writer, OUT, 1);
    edge.add(&writer, OUT | EDGE, 2);
    edge.take();
    Pipe { reader, writer, level, edge }
}

impl Pipe {
    /// Whether it can be written to, and who says so.
    fn state(&self) -> (bool, [Vec<(u64, u32)>; 2]) {
        let mut ready = [PollFd::new(&self.writer, PollFlags::OUT)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut ready, Some(&now)).expect("poll");
        let ready = ready[0].revents().contains(PollFlags::OUT);
        (ready, [self.level.take(), self.edge.take()])
    }
}

fn run(cx: &mut Context) {
    let all: Vec<Pipe> = (0..WAYS).map(made).collect();

    cx.ready_and_wait();

    for (way, found) in all.iter().enumerate() {
        let twin = made(way);
        check_eq!(found.state(), twin.state(), "pipe {way}");
        for step in 0.. {
            let [got, expected] = [found, &twin].map(|pipe| {
                let mut bytes = [0; 700];
                read(&pipe.reader, &mut bytes).map(|len| bytes[..len].to_vec())
            });
            let place = format!("pipe {way} after step {step}");
            check!(got == expected, "what was read of {place}");
            let [now, then] = [found, &twin].map(Pipe::state);
            check_eq!(now, then, "{place}");
            if step == 3 {
                let more = [found, &twin].map(|pipe| fill(&pipe.writer, &[5000], 100));
                check_eq!(more[0], more[1], "what fits into {place}");
            }
            if expected.is_err() || got != expected || now != then {
                break;
            }
        }
    }
}
