//! Descriptors in flight: of a file that is open elsewhere too, and of ones that are open nowhere else.
//!
//! Verified: they arrive with their messages, as the same open file descriptions, with offsets and contents.
//! CRIU: works.

use std::fs;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;

use rustix::io::write;
use rustix::pipe::pipe;

use super::talk::{DATAGRAM, SEQPACKET, STREAM, hear, pair, send, silent};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn run(cx: &mut Context) {
    let open = |name| {
        let (path, mut options) = (cx.path(name), fs::OpenOptions::new());
        options.read(true).write(true).create_new(true).open(path).expect("a new file")
    };
    let mut shared = open("shared");
    shared.write_all(b"shared file").expect("write");
    shared.seek(std::io::SeekFrom::Start(3)).expect("seek");
    for kind in [STREAM, DATAGRAM, SEQPACKET] {
        let (one, other) = pair(kind);
        let mut alone = tempfile(cx);
        alone.write_all(b"in flight alone").expect("write");
        alone.seek(std::io::SeekFrom::Start(3)).expect("seek");
        let (reader, writer) = pipe().expect("pipe");
        check_eq!(write(&writer, b"in a pipe"), Ok(9), "write");
        send(&one, b"before", &[]);
        send(&one, b"with three", &[shared.as_fd(), alone.as_fd(), reader.as_fd()]);
        send(&one, b"after", &[]);
        send(&one, b"x", &[writer.as_fd()]);
        SOCKETS.with_borrow_mut(|all| all.push((one, other)));
    }

    cx.ready_and_wait();

    for (_one, other) in SOCKETS.take() {
        let stream = super::talk::option(&other, libc::SO_TYPE) == libc::SOCK_STREAM;
        let got = hear(&other, 6, b"before", "without descriptors");
        check!(got.rights.is_empty(), "no descriptors come with what was sent before");
        let mut got = hear(&other, 100, b"with three", "with three descriptors");
        check_eq!(got.rights.len(), 3, "descriptors");
        let [own, alone, reader] = got.rights.try_into().unwrap_or_else(|rest: Vec<_>| {
            panic!("{} descriptors came", rest.len());
        });
        let mut text = String::new();
        let mut own = fs::File::from(own);
        check!(own.read_to_string(&mut text).is_ok(), "read");
        check_eq!(text, "red file", "the shared file");
        check_eq!(shared.stream_position().ok(), Some(11), "its offset, here");
        check!(shared.seek(std::io::SeekFrom::Start(3)).is_ok(), "seek");
        text.clear();
        check!(fs::File::from(alone).read_to_string(&mut text).is_ok(), "read");
        check_eq!(text, "flight alone", "the file that was nowhere else");
        // A read ends behind descriptors, but not before them.
        got = if stream {
            hear(&other, 100, b"afterx", "with one more")
        } else {
            hear(&other, 100, b"after", "after that");
            hear(&other, 100, b"x", "with one more")
        };
        check_eq!(got.rights.len(), 1, "the last descriptor");
        let mut bytes = [0; 20];
        check_eq!(rustix::io::read(&reader, &mut bytes), Ok(9), "what was in the pipe");
        check_eq!(&bytes[..9], b"in a pipe", "what was in the pipe");
        for writer in got.rights {
            check_eq!(write(&writer, b"more"), Ok(4), "write");
        }
        check_eq!(rustix::io::read(&reader, &mut bytes), Ok(4), "what was written afterwards");
        check_eq!(rustix::io::read(&reader, &mut bytes), Ok(0), "end of the pipe");
        silent(&other, "after all that");
    }
}

thread_local! {
    static SOCKETS: std::cell::RefCell<Vec<(std::os::fd::OwnedFd, std::os::fd::OwnedFd)>> =
        const { std::cell::RefCell::new(Vec::new()) };
}

/// A file that has no name.
fn tempfile(cx: &Context) -> fs::File {
    let path = cx.path("alone");
    let mut options = fs::OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).open(&path).expect("a new file");
    fs::remove_file(path).expect("it is there");
    file
}
