//! Many unix sockets, in pairs, with bytes under way.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::Context;

pub(super) fn run(cx: &mut Context, size: usize) {
    super::limit::raise_descriptors();
    let pairs: Vec<(UnixStream, UnixStream)> = (0..size / 2)
        .map(|number| {
            let (near, mut far) = UnixStream::pair().expect("socketpair");
            far.write_all(&number.to_ne_bytes()).expect("write");
            (near, far)
        })
        .collect();
    cx.ready_and_wait();
    for (number, (mut near, mut far)) in pairs.into_iter().enumerate() {
        let mut bytes = [0; 8];
        check!(near.read_exact(&mut bytes).is_ok(), "reading pair {number}");
        check_eq!(usize::from_ne_bytes(bytes), number, "what pair {number} held");
        check!(near.write_all(b"back").is_ok(), "writing back to pair {number}");
        let mut back = [0; 4];
        check!(far.read_exact(&mut back).is_ok() && &back == b"back", "the way back of {number}");
    }
}
