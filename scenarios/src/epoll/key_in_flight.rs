//! An item on a file that only a message in flight in a unix socket has any more, and an epoll that is in
//! flight itself, with an item of its own.
//!
//! Verified: both come out of the socket, and their events are reported, by the numbers from before.
//! CRIU: cannot dump.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use super::watch::{EDGE, Epoll, IN, NOTHING, at, at_epoll, event, plant, rouse};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn send(socket: &OwnedFd, file: BorrowedFd<'_>) {
    let files = [file];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&files)), "room for one");
    let bytes = [std::io::IoSlice::new(b"x")];
    sendmsg(socket, &bytes, &mut ancillary, SendFlags::empty()).expect("sendmsg");
}

fn receive(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut bytes = [std::io::IoSliceMut::new(&mut byte)];
    recvmsg(socket, &mut bytes, &mut ancillary, RecvFlags::DONTWAIT).expect("recvmsg");
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    })
}

fn run(cx: &mut Context) {
    let (here, there) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .expect("socketpair");
    let epoll = Epoll::new();
    plant(event(0), 50);
    epoll.add(at(50), IN | EDGE, 5);
    send(&here, at(50));
    sys::close(50);
    let file = event(0);
    plant(Epoll::new(), 51);
    at_epoll(51).add(&file, IN, 6);
    send(&here, at(51));
    sys::close(51);

    cx.ready_and_wait();

    check_eq!(epoll.take(), NOTHING, "before the event");
    let watched = receive(&there).expect("the watched file");
    rouse(&watched);
    check_eq!(epoll.take(), [(5, IN)], "after it");
    plant(&watched, 50);
    check_eq!(epoll.delete(at(50)), Ok(()), "deleting by the number from before");
    let inner = receive(&there).expect("the epoll");
    plant(inner.as_fd(), 51);
    check_eq!(at_epoll(51).take(), NOTHING, "the epoll before the event");
    rouse(&file);
    check_eq!(at_epoll(51).take(), [(6, IN)], "the epoll after it");
}
