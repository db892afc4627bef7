//! One file of every kind that can be watched, and how to make it ready or not.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{CWD, Mode, OFlags, mkfifoat, open};
use rustix::io::{Errno, read, write};
use rustix::pipe::{PipeFlags, pipe_with};

use super::watch::{ERR, Epoll, HUP, IN, OUT, calm, event, rouse};
use crate::Context;

/// A file to watch.
pub(super) struct Target {
    pub(super) name: &'static str,
    /// What it reports when it is ready, of all that is asked for.
    pub(super) ready: u32,
    what: What,
}

enum What {
    Event(OwnedFd),
    /// Bytes come from the other one.
    Reader(OwnedFd, OwnedFd),
    /// Bytes go to the other one.
    Writer(OwnedFd, OwnedFd),
    /// An epoll, and the eventfd it watches.
    Epoll(Epoll, OwnedFd),
}

impl AsFd for Target {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.what {
            What::Event(file) | What::Reader(file, _) | What::Writer(file, _) => file.as_fd(),
            What::Epoll(file, _) => file.as_fd(),
        }
    }
}

impl Target {
    /// One of each kind, none of them ready.
    pub(super) fn all(cx: &Context) -> Vec<Self> {
        let nested = (Epoll::new(), event(0));
        nested.0.add(&nested.1, IN, 0);
        let mut all = vec![Self::new("eventfd", What::Event(event(0)))];
        let ends = || pipe_with(PipeFlags::NONBLOCK).expect("pipe");
        all.extend(Self::ends(["pipe, reading", "pipe, writing"], ends));
        all.extend(Self::ends(["fifo, reading", "fifo, writing"], || fifo(cx)));
        all.push(Self::new("epoll", What::Epoll(nested.0, nested.1)));
        all
    }

    /// Two objects of one kind, one watched at its reading and one at its writing end.
    fn ends(names: [&'static str; 2], make: impl Fn() -> (OwnedFd, OwnedFd)) -> [Self; 2] {
        let (reader, writer) = make();
        let (other_reader, other_writer) = make();
        [
            Self::new(names[0], What::Reader(reader, writer)),
            Self::new(names[1], What::Writer(other_writer, other_reader)),
        ]
    }

    fn new(name: &'static str, what: What) -> Self {
        let ready = if matches!(what, What::Writer(..)) { OUT } else { IN };
        let target = Self { name, ready, what };
        if ready == OUT {
            target.calm();
        }
        target
    }

    /// Makes it signal that it is ready.
    #[track_caller]
    pub(super) fn rouse(&self) {
        match &self.what {
            What::Event(file) | What::Epoll(_, file) => rouse(file),
            What::Reader(_, writer) => {
                check_eq!(write(writer, b"x"), Ok(1), "writing for {}", self.name);
            }
            What::Writer(_, reader) => drain(reader),
        }
    }

    /// Makes it not ready.
    #[track_caller]
    pub(super) fn calm(&self) {
        match &self.what {
            What::Event(file) | What::Epoll(_, file) => calm(file),
            What::Reader(reader, _) => drain(reader),
            What::Writer(writer, _) => while write(writer, &[7; 4096]).is_ok() {},
        }
    }

    /// Closes the other end, if there is one, after which this one reports what is returned.
    pub(super) fn hang_up(self) -> Option<(OwnedFd, u32)> {
        match self.what {
            What::Reader(file, _) => Some((file, HUP)),
            What::Writer(file, _) => Some((file, ERR)),
            What::Event(_) | What::Epoll(..) => None,
        }
    }
}

#[track_caller]
fn drain(reader: &OwnedFd) {
    let mut bytes = [0; 4096];
    let end = loop {
        match read(reader, &mut bytes) {
            Ok(n) if n > 0 => {}
            end => break end,
        }
    };
    check_eq!(end, Err(Errno::AGAIN), "reading all there is");
}

/// Both ends of a new fifo.
fn fifo(cx: &Context) -> (OwnedFd, OwnedFd) {
    let free = |path: &PathBuf| !path.exists();
    let names = (0..).map(|number| cx.path(&format!("fifo.{number}")));
    let path = names.into_iter().find(free).expect("there is no last number");
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).expect("mkfifo");
    let end = |flags| open(&path, flags | OFlags::NONBLOCK, Mode::empty()).expect("open");
    let reader = end(OFlags::RDONLY);
    (reader, end(OFlags::WRONLY))
}
