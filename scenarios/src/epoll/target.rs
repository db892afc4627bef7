//! One file of every kind that can be watched, and how to make it ready or not.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, WatchFlags};
use rustix::fs::{CWD, Mode, OFlags, mkdir, mkfifoat, open};
use rustix::io::{Errno, ioctl_fionbio, ioctl_fionread, read, write};
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::watch::{ERR, Epoll, HUP, IN, OUT, calm, event, rouse};
use crate::context::until;
use crate::inet::place::v4;
use crate::{Context, sys};

/// What the checkpointer is told.
pub(super) use crate::tcp::pair::OPTIONS;

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
    Timer(OwnedFd),
    /// A terminal, and who is at its other end.
    Terminal(OwnedFd, OwnedFd),
    /// An epoll, and the eventfd it watches.
    Epoll(Epoll, OwnedFd),
    /// Bytes come from the other one through the network, which takes a moment.
    Distant(OwnedFd, OwnedFd),
    /// A listener, and where it listens.
    Listener(OwnedFd, PathBuf),
    /// An inotify, and the directory it watches.
    Directory(OwnedFd, PathBuf),
}

impl AsFd for Target {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.what {
            What::Event(file) | What::Timer(file) => file.as_fd(),
            What::Reader(file, _) | What::Writer(file, _) | What::Terminal(file, _) => file.as_fd(),
            What::Epoll(file, _) => file.as_fd(),
            What::Distant(file, _) | What::Listener(file, _) | What::Directory(file, _) => {
                file.as_fd()
            }
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
        all.extend(Self::ends(["socket, reading", "socket, writing"], sockets));
        all.push(Self::new("timerfd", What::Timer(timer())));
        let (terminal, other) = terminal();
        all.push(Self::new("terminal", What::Terminal(terminal, other)));
        all.push(Self::new("epoll", What::Epoll(nested.0, nested.1)));
        for (name, kind) in [
            ("socket of datagrams", SocketType::DGRAM),
            ("socket of packets", SocketType::SEQPACKET),
        ] {
            let (reader, writer) =
                socketpair(AddressFamily::UNIX, kind, FLAGS, None).expect("pair");
            all.push(Self::new(name, What::Reader(reader, writer)));
        }
        let (reader, writer) = datagrams(cx);
        all.push(Self::new("socket of UDP", What::Distant(reader, writer)));
        let (reader, writer) = connection(cx);
        all.push(Self::new("socket of TCP", What::Distant(reader, writer)));
        let path = free(cx, "listener");
        let listener = UnixListener::bind(&path).expect("bind");
        listener.set_nonblocking(true).expect("FIONBIO");
        all.push(Self::new("socket, listening", What::Listener(listener.into(), path)));
        let path = free(cx, "directory");
        mkdir(&path, Mode::RWXU).expect("mkdir");
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK).expect("inotify_init1");
        inotify::add_watch(&watch, &path, WatchFlags::CREATE).expect("inotify_add_watch");
        all.push(Self::new("inotify", What::Directory(watch, path)));
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
            What::Timer(file) => expire(file),
            What::Terminal(file, other) => send(file, other),
            What::Reader(_, writer) => {
                check_eq!(write(writer, b"x"), Ok(1), "writing for {}", self.name);
            }
            What::Writer(_, reader) => drain(reader),
            What::Distant(reader, writer) => {
                check_eq!(write(writer, b"x"), Ok(1), "writing for {}", self.name);
                let come = poll(&mut [PollFd::new(reader, PollFlags::IN)], None);
                check_eq!(come, Ok(1), "waiting for {}", self.name);
                // Those who watch are told just after.
                sys::nap(Duration::from_millis(2));
            }
            // It stays open as long as the process.
            What::Listener(_, path) => std::mem::forget(UnixStream::connect(path)),
            What::Directory(_, path) => {
                let path = path.join("file");
                std::fs::write(&path, "").expect("create");
                std::fs::remove_file(&path).expect("unlink");
            }
        }
    }

    /// Makes it not ready.
    #[track_caller]
    pub(super) fn calm(&self) {
        match &self.what {
            What::Event(file) | What::Timer(file) | What::Epoll(_, file) => calm(file),
            What::Reader(reader, _)
            | What::Terminal(reader, _)
            | What::Distant(reader, _)
            | What::Directory(reader, _) => drain(reader),
            What::Listener(file, _) => while accept(file).is_ok() {},
            What::Writer(writer, _) => while write(writer, &[7; 4096]).is_ok() {},
        }
    }

    /// Closes the other end, if there is one, after which this one reports what is returned.
    pub(super) fn hang_up(self) -> Option<(OwnedFd, u32)> {
        match self.what {
            // A socket tells more than that.
            _ if self.name.starts_with("socket") => None,
            What::Reader(file, _) => Some((file, HUP)),
            What::Writer(file, _) => Some((file, ERR)),
            _ => None,
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

/// What is watched does not block.
const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// A path where nothing is yet.
fn free(cx: &Context, name: &str) -> PathBuf {
    let mut names = (0..).map(|number| cx.path(&format!("{name}.{number}")));
    names.find(|path| !path.exists()).expect("there is no last number")
}

/// Two sockets that are connected to each other.
fn datagrams(cx: &Context) -> (OwnedFd, OwnedFd) {
    let own = || UdpSocket::bind((v4(cx, 0).ip(), 0)).expect("bind");
    let (one, other) = (own(), own());
    one.connect(other.local_addr().expect("an address")).expect("connect");
    other.connect(one.local_addr().expect("an address")).expect("connect");
    ioctl_fionbio(&one, true).expect("FIONBIO");
    (one.into(), other.into())
}

/// Both ends of a connection; the port is one the kernel chooses, at an address of our own.
fn connection(cx: &Context) -> (OwnedFd, OwnedFd) {
    let listener = TcpListener::bind((v4(cx, 0).ip(), 0)).expect("bind");
    let one = TcpStream::connect(listener.local_addr().expect("an address")).expect("connect");
    let (other, _) = listener.accept().expect("accept");
    ioctl_fionbio(&one, true).expect("FIONBIO");
    (one.into(), other.into())
}

/// Both ends of a new fifo.
fn fifo(cx: &Context) -> (OwnedFd, OwnedFd) {
    let path = free(cx, "fifo");
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).expect("mkfifo");
    let end = |flags| open(&path, flags | OFlags::NONBLOCK, Mode::empty()).expect("open");
    let reader = end(OFlags::RDONLY);
    (reader, end(OFlags::WRONLY))
}

/// Two ends of which one can be shut for writing by closing the other.
fn sockets() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None).expect("socketpair")
}

fn timer() -> OwnedFd {
    timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK).expect("timerfd_create")
}

/// Has a timer expire now.
#[track_caller]
fn expire(timer: &OwnedFd) {
    let never = Timespec { tv_sec: 0, tv_nsec: 0 };
    let at_once = Itimerspec { it_interval: never, it_value: Timespec { tv_sec: 0, tv_nsec: 1 } };
    let set = timerfd_settime(timer, TimerfdTimerFlags::empty(), &at_once);
    check!(set.is_ok(), "setting a timer: {set:?}");
    let ready = poll(&mut [PollFd::new(timer, PollFlags::IN)], None);
    check_eq!(ready, Ok(1), "waiting for a timer");
}

/// Has a byte arrive at a terminal, which takes the kernel a moment.
#[track_caller]
fn send(terminal: &OwnedFd, other: &OwnedFd) {
    let waiting = || ioctl_fionread(terminal).expect("FIONREAD");
    let before = waiting();
    check_eq!(write(other, b"x"), Ok(1), "writing to a terminal");
    until("a byte at the terminal", || waiting() > before);
    // Those who watch are told just after.
    sys::nap(Duration::from_millis(2));
}

/// A terminal without a line discipline's doings, and its other end.
fn terminal() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    let other = openpt(flags).expect("openpt");
    grantpt(&other).expect("grantpt");
    unlockpt(&other).expect("unlockpt");
    let name = ptsname(&other, Vec::new()).expect("ptsname");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK;
    let terminal = open(name, flags, Mode::empty()).expect("open");
    let mut settings = tcgetattr(&terminal).expect("tcgetattr");
    settings.make_raw();
    tcsetattr(&terminal, OptionalActions::Now, &settings).expect("tcsetattr");
    (terminal, other)
}
