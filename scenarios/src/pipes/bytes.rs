//! Pipes within one process, with bytes in them: a few, many pages, a full one.
//!
//! Verified: all bytes in order, then that the pipe is empty; status flags and capacity.
//! CRIU: works.

use std::os::fd::OwnedFd;

use rustix::fs::fcntl_getfl;
use rustix::io::{Errno, read, write};
use rustix::pipe::{PipeFlags, fcntl_getpipe_size, pipe_with};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

fn drain(fd: &OwnedFd) -> Vec<u8> {
    let (mut all, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = read(fd, &mut part) {
        all.extend_from_slice(&part[..n]);
    }
    all
}

fn run(cx: &mut Context) {
    let pipes: Vec<(usize, OwnedFd, OwnedFd)> = [0, 5, 20_000, 65_536]
        .into_iter()
        .map(|len| {
            let (reader, writer) =
                pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).expect("pipe2");
            if len > 0 {
                check_eq!(write(&writer, &pattern(len)), Ok(len), "filling a pipe");
            }
            (len, reader, writer)
        })
        .collect();
    let sizes: Vec<_> = pipes
        .iter()
        .map(|p| (fcntl_getpipe_size(&p.1), fcntl_getfl(&p.1), fcntl_getfl(&p.2)))
        .collect();

    cx.ready_and_wait();

    for ((len, reader, writer), (size, read_flags, write_flags)) in pipes.iter().zip(sizes) {
        check_eq!(fcntl_getpipe_size(reader), size, "capacity of the pipe of {len}");
        check_eq!(fcntl_getfl(reader), read_flags, "flags of the reader of {len}");
        check_eq!(fcntl_getfl(writer), write_flags, "flags of the writer of {len}");
        if *len == 65_536 {
            check_eq!(write(writer, b"x"), Err(Errno::AGAIN), "writing to the full pipe");
        }
        check!(drain(reader) == pattern(*len), "the pipe of {len} has other bytes");
        check_eq!(read(reader, &mut [0; 1]), Err(Errno::AGAIN), "the pipe of {len}, once drained");
        check_eq!(write(writer, b"more"), Ok(4), "writing again");
        check_eq!(drain(reader), b"more", "reading again");
    }
}
