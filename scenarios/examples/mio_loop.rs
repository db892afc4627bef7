//! An event loop on mio: sixteen pipes, written by four threads with loops of their own and read by
//! one, every edge of which counts, and a waker.
//!
//! Each pipe carries a sequence of numbers; the reader checks that none is lost, doubled or late.

#![allow(clippy::unwrap_used, reason = "a program under test fails by panicking")]

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use mio::unix::pipe::{self, Receiver, Sender};
use mio::{Events, Interest, Poll, Token, Waker};

const WRITERS: u64 = 4;
const PIPES: u64 = 4;
/// Bursts of each writer, and numbers of a burst for each pipe: more than a pipe takes at once.
const BURSTS: u64 = 120;
const BURST: u64 = 9_000;
const WAKER: Token = Token(usize::MAX);

fn main() {
    let mut poll = Poll::new().unwrap();
    let waker = Arc::new(Waker::new(poll.registry(), WAKER).unwrap());
    let wakes = Arc::new(AtomicU64::new(0));
    let mut receivers = Vec::new();
    let mut threads = Vec::new();
    for _ in 0..WRITERS {
        let mut senders = Vec::new();
        for _ in 0..PIPES {
            let (sender, mut receiver) = pipe::new().unwrap();
            let token = Token(receivers.len());
            poll.registry().register(&mut receiver, token, Interest::READABLE).unwrap();
            receivers.push((receiver, Sequence::default()));
            senders.push(sender);
        }
        let (waker, wakes) = (Arc::clone(&waker), Arc::clone(&wakes));
        threads.push(thread::spawn(move || write_all(senders, &waker, &wakes)));
    }
    let mut seen = 0;
    let mut events = Events::with_capacity(7);
    let mut open = receivers.len();
    while open > 0 {
        poll.poll(&mut events, None).unwrap();
        for event in &events {
            if event.token() == WAKER {
                seen = wakes.load(Ordering::SeqCst);
                continue;
            }
            let (receiver, sequence) = &mut receivers[event.token().0];
            if sequence.read(receiver) {
                open -= 1;
            }
        }
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(seen, WRITERS * BURSTS, "the last wake-up was lost");
    for (number, (_, sequence)) in receivers.iter().enumerate() {
        println!("{number} {}", sequence.next);
    }
}

/// What has come out of a pipe.
#[derive(Default)]
struct Sequence {
    next: u64,
    rest: VecDeque<u8>,
    ended: bool,
}

impl Sequence {
    /// Reads until there is nothing more, as an edge demands; true at its end, once.
    fn read(&mut self, receiver: &mut Receiver) -> bool {
        let mut bytes = [0; 8192];
        loop {
            match receiver.read(&mut bytes) {
                Ok(0) => return !std::mem::replace(&mut self.ended, true),
                Ok(count) => self.rest.extend(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => panic!("{error}"),
            }
            while self.rest.len() >= 8 {
                let word: Vec<u8> = self.rest.drain(..8).collect();
                assert_eq!(u64::from_ne_bytes(word.try_into().unwrap()), self.next);
                self.next += 1;
            }
        }
    }
}

fn write_all(mut senders: Vec<Sender>, waker: &Waker, wakes: &AtomicU64) {
    let mut poll = Poll::new().unwrap();
    for (token, sender) in senders.iter_mut().enumerate() {
        poll.registry().register(sender, Token(token), Interest::WRITABLE).unwrap();
    }
    let mut events = Events::with_capacity(3);
    for burst in 0..BURSTS {
        let bytes: Vec<u8> =
            (burst * BURST..(burst + 1) * BURST).flat_map(u64::to_ne_bytes).collect();
        let mut written = vec![0; senders.len()];
        for sender in 0..senders.len() {
            write_some(&mut senders[sender], &bytes, &mut written[sender]);
        }
        while written.iter().any(|&written| written < bytes.len()) {
            poll.poll(&mut events, None).unwrap();
            for Token(sender) in events.iter().map(mio::event::Event::token) {
                write_some(&mut senders[sender], &bytes, &mut written[sender]);
            }
        }
        wakes.fetch_add(1, Ordering::SeqCst);
        waker.wake().unwrap();
        thread::sleep(Duration::from_millis(1));
    }
}

fn write_some(sender: &mut Sender, bytes: &[u8], written: &mut usize) {
    while *written < bytes.len() {
        match sender.write(&bytes[*written..]) {
            Ok(count) => *written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("{error}"),
        }
    }
}
