//! Which descriptors are one.

use std::os::fd::{AsFd, OwnedFd};

use dormouse_resources::file::{self, FileIndex, Identity, Sighting};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fs::{Mode, OFlags, open};

use crate::round_trip::{is_same_description, me, number};

/// Numbers agree with what the kernel says of every pair.
#[test]
fn numbers_agree_with_the_kernel() {
    let same_file = || open("/dev/null", OFlags::RDWR, Mode::empty()).unwrap();
    let (from, to) = rustix::pipe::pipe().unwrap();
    let (socket, peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut files: Vec<OwnedFd> = vec![from, to, socket.into(), peer.into()];
    files.extend((0..10).map(|_| same_file()));
    files.extend((0..3).map(|count| eventfd(count, EventfdFlags::empty()).unwrap()));
    files.extend((0..3).map(|_| epoll::create(epoll::CreateFlags::empty()).unwrap()));
    files.push(open("/proc/self/fd/0", OFlags::PATH, Mode::empty()).unwrap());
    let duplicates: Vec<_> = files.iter().rev().map(|file| file.try_clone().unwrap()).collect();
    files.extend(duplicates);

    let proc = dormouse_kernel::proc::ProcDir::of_self().unwrap();
    let mut index = FileIndex::new();
    let mut numbers = Vec::new();
    for file in &files {
        let fd = number(file);
        let sighting = Sighting::of_fd(&proc, fd).unwrap();
        let identity = index.identify((me(), fd), &sighting, file::compare).unwrap();
        assert_eq!(matches!(identity, Identity::New(_)), numbers.len() < files.len() / 2);
        numbers.push(identity.id());
    }
    for (one, a) in files.iter().zip(&numbers) {
        for (other, b) in files.iter().zip(&numbers) {
            assert_eq!(is_same_description(one.as_fd(), other.as_fd()), a == b);
        }
    }
}
