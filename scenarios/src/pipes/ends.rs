//! Pipes of which one end is closed, with bytes and without.
//!
//! Verified: bytes and then end of file where no writer is left; EPIPE where no reader is.
//! CRIU: works.

use rustix::io::{Errno, read, write};
use rustix::pipe::pipe;

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (full, writer) = pipe().expect("pipe");
    check_eq!(write(&writer, b"the last"), Ok(8), "write");
    drop(writer);
    let (empty, writer) = pipe().expect("pipe");
    drop(writer);
    let (reader, deaf) = pipe().expect("pipe");
    drop(reader);

    sys::ignore(libc::SIGPIPE);

    cx.ready_and_wait();

    let mut bytes = [0; 20];
    check_eq!(read(&full, &mut bytes), Ok(8), "what is left in the pipe");
    check_eq!(&bytes[..8], b"the last", "the bytes");
    check_eq!(read(&full, &mut bytes), Ok(0), "end of file after the bytes");
    check_eq!(read(&empty, &mut bytes), Ok(0), "end of file");
    check_eq!(write(&deaf, b"x"), Err(Errno::PIPE), "writing without a reader");
}
