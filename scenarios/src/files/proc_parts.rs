//! Files of `/proc` about single descriptors and mappings: `fdinfo` of oneself and of a child, also
//! of a descriptor that is such a file; by `O_PATH` links to a descriptor and to a mapping; shared,
//! under a low number, and in flight.
//!
//! Verified: what they are about, and tell; which are one open file description; places in them.
//! CRIU: works for `fdinfo` of oneself.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use super::proc::{name, of_path, text};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let me = std::process::id();
    let count = eventfd(7, EventfdFlags::empty()).expect("eventfd");
    let own = format!("/proc/{me}/fdinfo/{}", count.as_raw_fd());
    let child = cx.fork(|cx| {
        cx.arrive(sys::gettid());
        let done = cx.path("done");
        crate::context::until_forever(|| done.exists());
    });
    cx.await_arrival(child);
    let mut about = File::open(&own).expect("open fdinfo");
    let again = about.try_clone().expect("dup");
    let mut childs =
        File::open(format!("/proc/{child}/fdinfo/{}", count.as_raw_fd())).expect("open fdinfo");
    // The number it gets is the one it is about.
    let itself = about.as_raw_fd() + 50;
    sys::dup2(about.as_raw_fd(), itself);
    let file = File::open(format!("/proc/{me}/fdinfo/{itself}")).expect("open fdinfo");
    sys::dup2(file.as_raw_fd(), itself);
    drop(file);
    let link = of_path(format!("/proc/{me}/fd/{}", count.as_raw_fd()));
    let low = of_path(format!("/proc/{me}/fd/{}", count.as_raw_fd()));
    sys::dup2(low.as_raw_fd(), 0);
    let mapping = std::fs::read_dir("/proc/self/map_files").ok().and_then(|mut all| all.next());
    let mapping = mapping.map(|entry| {
        let name = entry.expect("readdir").file_name();
        of_path(std::path::Path::new(&format!("/proc/{me}/map_files")).join(name))
    });
    let (from, to) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None)
            .expect("socketpair");
    let sent = File::open(&own).expect("open fdinfo");
    let files = [sent.as_fd()];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    control.push(SendAncillaryMessage::ScmRights(&files));
    sendmsg(&to, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).expect("sendmsg");
    drop(sent);
    about.seek(SeekFrom::Start(3)).expect("lseek");

    cx.ready_and_wait();

    check_eq!((&again).stream_position().ok(), Some(3), "the place, by a duplicate");
    let expected = "eventfd-count:                7";
    check!(text(&mut about).contains(expected), "one's own");
    check!(text(&mut childs).contains(expected), "a child's");
    check_eq!(name(&about), std::path::PathBuf::from(&own), "the name");
    let linked = std::path::PathBuf::from(format!("/proc/{me}/fd/{}", count.as_raw_fd()));
    check_eq!(name(&link), linked, "a link");
    // SAFETY: standard input has become a link.
    let stdin = unsafe { std::os::fd::BorrowedFd::borrow_raw(0) };
    check_eq!(name(&stdin), name(&link), "another under a low number");
    let path = format!("/proc/{me}/fdinfo/{itself}");
    check_eq!(
        std::fs::read_link(format!("/proc/self/fd/{itself}")).ok(),
        Some(path.into()),
        "itself"
    );
    if let Some(mapping) = &mapping {
        check!(name(mapping).to_string_lossy().contains("/map_files/"), "a mapping");
    }
    let mut byte = [0];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let flags = RecvFlags::DONTWAIT;
    recvmsg(&from, &mut [IoSliceMut::new(&mut byte)], &mut control, flags).expect("recvmsg");
    let received: Option<OwnedFd> = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    check!(text(&mut received.expect("a file").into()).contains(expected), "one in flight");
    cx.publish("done", "");
    cx.reap(child);
}
