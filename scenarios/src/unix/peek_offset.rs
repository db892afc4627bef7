//! Where the next look without taking begins (`SO_PEEK_OFF`).
//!
//! Verified: the offset, over a stream and over datagrams; then what a look and a read give.
//! CRIU: sets it to what the dump left.

use rustix::net::RecvFlags;

use super::talk::{DATAGRAM, STREAM, hear, option, pair, receive, send, set_option};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// `include/uapi/asm-generic/socket.h`.
const SO_PEEK_OFF: i32 = 42;

fn run(cx: &mut Context) {
    let (stream, datagram, plain) = (pair(STREAM), pair(DATAGRAM), pair(STREAM));
    for (one, other) in [&stream, &datagram] {
        send(one, b"hello", &[]);
        send(one, b"world", &[]);
        set_option(other, SO_PEEK_OFF, 2);
    }
    send(&plain.0, b"hello", &[]);

    cx.ready_and_wait();

    for ((_, other), seen) in [(&stream, &b"llow"[..]), (&datagram, b"llo")] {
        check_eq!(option(other, SO_PEEK_OFF), 2, "the offset");
        let got = receive(other, 4, RecvFlags::PEEK).map(|got| got.bytes);
        check_eq!(got.as_deref(), Ok(seen), "a look");
        check_eq!(option(other, SO_PEEK_OFF), 2 + seen.len() as i32, "the offset after that");
        hear(other, 5, b"hello", "what is there");
    }
    check_eq!(option(&plain.1, SO_PEEK_OFF), -1, "where none was set");
    hear(&plain.1, 100, b"hello", "what is there");
}
