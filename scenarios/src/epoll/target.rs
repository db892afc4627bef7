//! One file of every kind that can be watched, and how to make it ready or not.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
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
use crate::sys::{Queue, queue_name, unlink_queue};
use crate::{Context, sys};

/// What the checkpointer is told.
pub(super) use crate::tcp::pair::OPTIONS;

/// A file to watch.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// What it reports when it is ready, of all that is asked for.
    pub(crate) ready: u32,
    what: What,
}

pub(crate) enum What {
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
    /// A file, and what makes it ready and not ready.
    Special(OwnedFd, Change, Change),
}

type Change = Box<dyn Fn(&OwnedFd)>;

/// How to make one of every kind.
pub(crate) const KINDS: &[fn(&Context) -> Target] = &[
    |_| Target::new("eventfd", What::Event(event(0))),
    |_| Target::reader("pipe, reading", pipe()),
    |_| Target::writer("pipe, writing", pipe()),
    |cx| Target::reader("fifo, reading", fifo(cx)),
    |cx| Target::writer("fifo, writing", fifo(cx)),
    |_| Target::reader("socket, reading", sockets(SocketType::STREAM)),
    |_| Target::writer("socket, writing", sockets(SocketType::STREAM)),
    |_| Target::new("timerfd", What::Timer(timer())),
    |_| {
        let (terminal, other) = terminal();
        Target::new("terminal", What::Terminal(terminal, other))
    },
    |_| {
        let (epoll, watched) = (Epoll::new(), event(0));
        epoll.add(&watched, IN, 0);
        Target::new("epoll", What::Epoll(epoll, watched))
    },
    |_| Target::reader("socket of datagrams", sockets(SocketType::DGRAM)),
    |_| Target::reader("socket of packets", sockets(SocketType::SEQPACKET)),
    |cx| {
        let (reader, writer) = datagrams(cx);
        Target::new("socket of UDP", What::Distant(reader, writer))
    },
    |cx| {
        let (reader, writer) = connection(cx);
        Target::new("socket of TCP", What::Distant(reader, writer))
    },
    |cx| {
        let path = free(cx, "listener");
        let listener = UnixListener::bind(&path).expect("bind");
        listener.set_nonblocking(true).expect("FIONBIO");
        Target::new("socket, listening", What::Listener(listener.into(), path))
    },
    |cx| {
        let path = free(cx, "directory");
        mkdir(&path, Mode::RWXU).expect("mkdir");
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK).expect("inotify_init1");
        inotify::add_watch(&watch, &path, WatchFlags::CREATE).expect("inotify_add_watch");
        Target::new("inotify", What::Directory(watch, path))
    },
    |_| {
        let (file, queue) = queue();
        let calm = Rc::clone(&queue);
        let rouse = move |_: &OwnedFd| queue.send(b"x", 0).expect("mq_send");
        let calm = move |_: &OwnedFd| while calm.receive().is_ok() {};
        Target::special("message queue, reading", IN, file, rouse, calm)
    },
    |_| {
        let (file, queue) = queue();
        let calm = Rc::clone(&queue);
        let rouse = move |_: &OwnedFd| drop(queue.receive().expect("mq_receive"));
        let calm = move |_: &OwnedFd| while calm.send(b"x", 0).is_ok() {};
        let target = Target::special("message queue, writing", OUT, file, rouse, calm);
        target.calm();
        target
    },
];

impl AsFd for Target {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.what {
            What::Event(file) | What::Timer(file) => file.as_fd(),
            What::Reader(file, _) | What::Writer(file, _) | What::Terminal(file, _) => file.as_fd(),
            What::Epoll(file, _) => file.as_fd(),
            What::Distant(file, _) | What::Listener(file, _) | What::Directory(file, _) => {
                file.as_fd()
            }
            What::Special(file, ..) => file.as_fd(),
        }
    }
}

impl Target {
    /// One of each kind, none of them ready.
    pub(super) fn all(cx: &Context) -> Vec<Self> {
        KINDS.iter().map(|make| make(cx)).collect()
    }

    /// One of a kind of its own, by what makes it ready and not ready again; its other end, if it has
    /// one, is held by the first.
    pub(crate) fn special(
        name: &'static str,
        ready: u32,
        file: OwnedFd,
        rouse: impl Fn(&OwnedFd) + 'static,
        calm: impl Fn(&OwnedFd) + 'static,
    ) -> Self {
        let what = What::Special(file, Box::new(rouse), Box::new(calm));
        Self { name, ready, what }
    }

    /// One that is watched at its reading end.
    fn reader(name: &'static str, (reader, writer): (OwnedFd, OwnedFd)) -> Self {
        Self::new(name, What::Reader(reader, writer))
    }

    /// One that is watched at its writing end.
    pub(crate) fn writer(name: &'static str, (reader, writer): (OwnedFd, OwnedFd)) -> Self {
        Self::new(name, What::Writer(writer, reader))
    }

    pub(crate) fn new(name: &'static str, what: What) -> Self {
        let ready = if matches!(what, What::Writer(..)) { OUT } else { IN };
        let target = Self { name, ready, what };
        if ready == OUT {
            target.calm();
        }
        target
    }

    /// Makes it signal that it is ready.
    #[track_caller]
    pub(crate) fn rouse(&self) {
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
                sys::nap(Duration::from_micros(200));
            }
            // It stays open as long as the process.
            What::Listener(_, path) => std::mem::forget(UnixStream::connect(path)),
            What::Directory(_, path) => create_one(path),
            What::Special(file, rouse, _) => rouse(file),
        }
    }

    /// Makes it not ready.
    #[track_caller]
    pub(crate) fn calm(&self) {
        match &self.what {
            What::Event(file) | What::Timer(file) | What::Epoll(_, file) => calm(file),
            What::Reader(reader, _)
            | What::Terminal(reader, _)
            | What::Distant(reader, _)
            | What::Directory(reader, _) => drain(reader),
            What::Listener(file, _) => while accept(file).is_ok() {},
            What::Writer(writer, _) => while write(writer, &[7; 4096]).is_ok() {},
            What::Special(file, _, calm) => calm(file),
        }
    }

    /// Puts another descriptor of the file in the place of this one.
    pub(crate) fn replace(&mut self, file: OwnedFd) {
        let own = match &mut self.what {
            What::Event(own) | What::Timer(own) => own,
            What::Reader(own, _) | What::Writer(own, _) | What::Terminal(own, _) => own,
            What::Epoll(own, _) => &mut own.0,
            What::Distant(own, _) | What::Listener(own, _) | What::Directory(own, _) => own,
            What::Special(own, ..) => own,
        };
        *own = file;
    }

    /// Closes the other end, if there is one. Nothing makes the file ready or not ready after that.
    pub(crate) fn part(&mut self) -> bool {
        match &mut self.what {
            What::Reader(_, other)
            | What::Writer(_, other)
            | What::Terminal(_, other)
            | What::Distant(_, other) => *other = event(0),
            _ => return false,
        }
        true
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

/// Creates a file in a directory and removes it. Each has another name, as events that are the same
/// are told once.
pub(crate) fn create_one(dir: &Path) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let path = dir.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
    std::fs::write(&path, "").expect("create");
    std::fs::remove_file(&path).expect("unlink");
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
pub(crate) fn free(cx: &Context, name: &str) -> PathBuf {
    let mut names = (0..).map(|number| cx.path(&format!("{name}.{number}")));
    names.find(|path| !path.exists()).expect("there is no last number")
}

/// Two sockets of UDP that are connected to each other.
pub(crate) fn datagrams(cx: &Context) -> (OwnedFd, OwnedFd) {
    let own = || UdpSocket::bind((v4(cx, 0).ip(), 0)).expect("bind");
    let (one, other) = (own(), own());
    one.connect(other.local_addr().expect("an address")).expect("connect");
    other.connect(one.local_addr().expect("an address")).expect("connect");
    ioctl_fionbio(&one, true).expect("FIONBIO");
    (one.into(), other.into())
}

/// Both ends of a connection; the port is one the kernel chooses, at an address of our own.
pub(crate) fn connection(cx: &Context) -> (OwnedFd, OwnedFd) {
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

/// Two sockets that are connected to each other.
fn sockets(kind: SocketType) -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, kind, FLAGS, None).expect("socketpair")
}

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::NONBLOCK).expect("pipe")
}

/// A message queue that nobody else finds, and another description of it.
pub(crate) fn queue() -> (OwnedFd, Rc<Queue>) {
    let name = queue_name("target");
    let queue = Queue::create(&name, libc::O_NONBLOCK, (3, 8)).expect("mq_open");
    let other = Queue::open(&name, libc::O_RDWR | libc::O_NONBLOCK).expect("mq_open");
    unlink_queue(&name).expect("mq_unlink");
    (queue.into(), other.into())
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
pub(super) fn send(terminal: &OwnedFd, other: &OwnedFd) {
    let waiting = || ioctl_fionread(terminal).expect("FIONREAD");
    let before = waiting();
    check_eq!(write(other, b"x"), Ok(1), "writing to a terminal");
    until("a byte at the terminal", || waiting() > before);
    // Those who watch are told just after.
    sys::nap(Duration::from_millis(2));
}

/// A terminal without a line discipline's doings, and its other end.
pub(crate) fn terminal() -> (OwnedFd, OwnedFd) {
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
