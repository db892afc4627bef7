//! A descriptor in flight over a connection that nobody has accepted, of a file that nobody has open any more.
//!
//! Verified: the dump is refused, naming the socket that listens; the file arrives.
//! CRIU: fails to dump it.

use std::io::Read;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd};
use std::os::unix::net::{UnixListener, UnixStream};

use crate::unix::talk::receive;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).refused("unix socket");

fn run(cx: &mut Context) {
    let path = cx.path("listener");
    super::at_42(UnixListener::bind(&path).expect("bind").into_raw_fd());
    let client = UnixStream::connect(&path).expect("connect").into();
    let (reader, writer) = std::io::pipe().expect("pipe");
    crate::unix::talk::send(&client, b"an end", &[reader.as_fd()]);
    drop(reader);

    cx.ready_and_wait();

    // SAFETY: the number has been this descriptor's all along.
    let listener = unsafe { UnixListener::from_raw_fd(42) };
    let server = listener.accept().expect("accept").0.into();
    let got = receive(&server, 100, rustix::net::RecvFlags::empty()).expect("recvmsg");
    check_eq!(got.bytes, b"an end", "what was sent");
    drop(writer);
    let mut reader = std::fs::File::from(got.rights.into_iter().next().expect("a descriptor"));
    check_eq!(reader.read(&mut [0; 10]).ok(), Some(0), "the end of the pipe");
}
