//! A pipe in packet mode (`O_DIRECT`): each read gives one write, and cuts what does not fit.
//!
//! Verified: packets of several sizes, written before, come one by one; the mode is still there for
//! packets written afterwards.
//! CRIU: refuses pipes with this flag.

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{read, write};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const PACKETS: [usize; 6] = [1, 100, 4096, 7, 7, 2000];

fn run(cx: &mut Context) {
    let (reader, writer) = pipe_with(PipeFlags::DIRECT).expect("pipe2");
    for (number, len) in PACKETS.into_iter().enumerate() {
        check_eq!(write(&writer, &vec![number as u8; len]), Ok(len), "write");
    }

    cx.ready_and_wait();

    let mut bytes = [0; 8192];
    for (number, len) in PACKETS.into_iter().enumerate() {
        check_eq!(read(&reader, &mut bytes), Ok(len), "length of packet {number}");
        check!(bytes[..len].iter().all(|&b| b == number as u8), "bytes of packet {number}");
    }
    check_eq!(fcntl_getfl(&writer).map(|f| f.contains(OFlags::DIRECT)), Ok(true), "O_DIRECT");
    check_eq!((write(&writer, b"one"), write(&writer, b"more")), (Ok(3), Ok(4)), "two writes");
    check_eq!((read(&reader, &mut bytes), read(&reader, &mut bytes)), (Ok(3), Ok(4)), "two reads");
}
