//! What becomes of the file and the number of an item before the checkpoint.

use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::{dup, write};
use rustix::net::RecvFlags;

use crate::epoll::watch::{at, event, plant, unshare_files};
use crate::unix::talk;
use crate::{Context, sys};

/// Where a file is, and what its number stands for, while the checkpoint is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Key {
    /// The number stands for the file.
    Live,
    /// It is closed; the file has another.
    Closed,
    /// It stands for another file.
    Reused,
    /// Only a child has the file.
    Child,
    /// Only a message in flight has it.
    Flight,
    /// Only a thread with an fd table of its own has it.
    Thread,
}

impl Key {
    pub(super) const ALL: [(&'static str, Self); 6] = [
        ("live", Self::Live),
        ("closed", Self::Closed),
        ("reused", Self::Reused),
        ("child", Self::Child),
        ("flight", Self::Flight),
        ("thread", Self::Thread),
    ];
}

/// Who keeps the files meanwhile.
pub(super) enum Keeper {
    /// This process, under other numbers.
    Own,
    /// Messages in flight, one a file.
    Messages(Vec<(OwnedFd, OwnedFd)>),
    /// Somebody who sends each file when it is asked for.
    Other(OwnedFd),
}

impl Keeper {
    /// Gives the files away. What remains here of each is a descriptor of something else.
    pub(super) fn keep(cx: &Context, key: Key, files: &[i32]) -> Self {
        match key {
            Key::Live | Key::Closed | Key::Reused => Self::Own,
            Key::Flight => {
                let send = |&file: &i32| {
                    let (one, other) = talk::pair(talk::DATAGRAM);
                    talk::send(&one, b"x", &[at(file)]);
                    (one, other)
                };
                Self::Messages(files.iter().map(send).collect())
            }
            Key::Child => {
                let (own, line) = UnixStream::pair().expect("socketpair");
                let child = cx.fork(|cx| {
                    forget(files, line.as_raw_fd());
                    cx.arrive(sys::gettid());
                    serve(files, &line.into());
                });
                cx.await_arrival(child);
                Self::Other(own.into())
            }
            Key::Thread => {
                let (own, line) = UnixStream::pair().expect("socketpair");
                let files = files.to_vec();
                let line = line.into_raw_fd();
                let (_, _) = cx.thread(move |cx| {
                    unshare_files();
                    forget(&files, line);
                    cx.arrive(sys::gettid());
                    let line = dup(at(line)).expect("dup");
                    serve(&files, &line);
                });
                sys::close(line);
                Self::Other(own.into())
            }
        }
    }

    /// Gets a file back by its place; nothing if it never was away.
    pub(super) fn fetch(&self, place: usize) -> Option<OwnedFd> {
        let receive = |from: &OwnedFd| {
            let got = talk::receive(from, 1, RecvFlags::empty()).expect("a message");
            got.rights.into_iter().next().expect("a descriptor")
        };
        match self {
            Self::Own => None,
            Self::Messages(pairs) => Some(receive(&pairs[place].1)),
            Self::Other(line) => {
                write(line, &(place as u32).to_ne_bytes()).expect("the keeper listens");
                Some(receive(line))
            }
        }
    }
}

/// Closes everything in this table but what is to be kept.
fn forget(files: &[i32], line: i32) {
    let kept: Vec<i32> = files.iter().copied().chain([line, 0, 1, 2]).collect();
    let open = std::fs::read_dir("/proc/thread-self/fd").expect("own descriptors");
    let open: Vec<i32> =
        open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // The directory itself was among them.
    let open = open.into_iter().filter(|&fd| rustix::io::fcntl_getfd(at(fd)).is_ok());
    open.filter(|fd| !kept.contains(fd)).for_each(sys::close);
}

/// Sends each file that is asked for, until nobody asks any more.
fn serve(files: &[i32], line: &OwnedFd) {
    let mut place = [0; 4];
    while rustix::io::read(line, &mut place) == Ok(4) {
        let file = files[u32::from_ne_bytes(place) as usize];
        talk::send(line, b"x", &[at(file)]);
    }
}

/// Makes the number stand for what the key says.
pub(super) fn leave(key: Key, number: i32) {
    match key {
        Key::Live => {}
        Key::Reused => plant(event(0).as_fd(), number),
        _ => sys::close(number),
    }
}
