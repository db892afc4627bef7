//! Many descriptors of several kinds: pipes with bytes in them, eventfds,
//! files with an offset, duplicates.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};
use rustix::pipe::pipe;

use crate::Context;

/// What five descriptors are.
struct Five {
    reader: OwnedFd,
    writer: OwnedFd,
    event: OwnedFd,
    file: File,
    again: OwnedFd,
}

pub(super) fn run(cx: &mut Context, size: usize) {
    super::limit::raise_descriptors();
    let path = cx.path("file");
    std::fs::write(&path, b"contents").expect("the state directory is writable");
    let all: Vec<Five> = (0..size / 5)
        .map(|number| {
            let (reader, writer) = pipe().expect("pipe");
            write(&writer, &number.to_ne_bytes()).expect("write");
            let event = eventfd(number as u32 + 1, EventfdFlags::NONBLOCK).expect("eventfd");
            let mut file = File::open(&path).expect("open");
            file.seek(SeekFrom::Start(number as u64)).expect("seek");
            let again = writer.try_clone().expect("dup");
            Five { reader, writer, event, file, again }
        })
        .collect();
    cx.ready_and_wait();
    for (number, Five { reader, writer, event, mut file, again }) in all.into_iter().enumerate() {
        let mut bytes = [0; 8];
        check_eq!(read(&reader, &mut bytes), Ok(8), "reading pipe {number}");
        check_eq!(usize::from_ne_bytes(bytes), number, "what pipe {number} held");
        drop(writer);
        check_eq!(File::from(again).write(b"x").ok(), Some(1), "the duplicate");
        check_eq!(read(&event, &mut bytes), Ok(8), "reading eventfd {number}");
        check_eq!(u64::from_ne_bytes(bytes), number as u64 + 1, "eventfd {number}");
        check_eq!(file.stream_position().ok(), Some(number as u64), "offset {number}");
    }
}
