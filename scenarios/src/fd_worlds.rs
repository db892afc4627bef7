//! Many small worlds of open files of every kind, which share them in every way: duplicates, a
//! child's table, and messages in flight.
//!
//! `dormouse-scenario --fd-worlds DIR` reads `DIR/worlds`, one world a line: what the root does, what
//! its child does with what it has inherited, and what the root does then. It says ready, waits for
//! `go`, and leaves in `DIR/outcomes` which descriptors and messages are one open file description
//! (by `kcmp(2)`) and what each of those is. Whoever runs it twice, once with a checkpoint and once
//! without, must find the same.

use std::fmt;
use std::fs::{self, File};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fs::{
    CWD, FileType, MemfdFlags, Mode, OFlags, SeekFrom, inotify, memfd_create, mknodat, open, seek,
};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socket, socketpair,
};
use rustix::process::{PidfdFlags, Resource, Rlimit, getpid, getrlimit, pidfd_open, setrlimit};
use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};

use crate::files::fanotify;
use crate::{Context, User, sys};

/// Descriptors that a world has.
pub const SLOTS: usize = 16;
/// Kinds of files.
pub const KINDS: usize = 33;
/// Where their numbers begin: what comes before is this program's.
const FIRST: i32 = 100;

/// What is done. Numbers are those of slots, and wrong ones do nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// Makes a file of a kind, or two that belong together, in a slot and the next.
    Make,
    /// Duplicates a slot to another.
    Duplicate,
    /// Closes a slot.
    Close,
    /// Sends a slot through another, if that is a socket.
    Send,
    /// Receives to a slot through another.
    Receive,
}

impl Verb {
    const ALL: [Self; 5] = [Self::Make, Self::Duplicate, Self::Close, Self::Send, Self::Receive];
}

/// One operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Op {
    /// What is done.
    pub verb: Verb,
    /// To which slot.
    pub slot: usize,
    /// With which kind or other slot.
    pub with: usize,
}

/// What is done by the root, by the child, and by the root again.
pub type Graph = [Vec<Op>; 3];

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, slot, with } = self;
        write!(f, "{} {slot} {with}", *verb as usize)
    }
}

/// A line for [`run`].
#[must_use]
pub fn line(graph: &Graph) -> String {
    let part = |ops: &Vec<Op>| ops.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    graph.each_ref().map(part).join(";")
}

fn read(line: &str) -> Option<Graph> {
    let op = |text: &str| {
        let mut words = text.split(' ').map(|word| word.parse::<usize>().ok());
        let mut next = || words.next().flatten();
        Some(Op { verb: *Verb::ALL.get(next()?)?, slot: next()?, with: next()? })
    };
    let part = |text: &str| text.split(',').filter(|op| !op.is_empty()).map(op).collect();
    let parts: Option<Vec<Vec<Op>>> = line.split(';').map(part).collect();
    parts?.try_into().ok()
}

/// The program.
pub fn run(dir: &Path) {
    crate::begin(User::Root);
    let text = fs::read_to_string(dir.join("worlds")).expect("the harness wrote the worlds");
    let graphs: Vec<Graph> = text.lines().map(|line| read(line).expect("a world")).collect();
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("setrlimit");
    let cx = Context::new(dir, User::Root);
    let play = |part: usize| {
        for (world, graph) in graphs.iter().enumerate() {
            for (number, op) in graph[part].iter().enumerate() {
                let place = dir.join(format!("{world}.{part}.{number}"));
                World(world).play(op, &place);
            }
        }
    };
    play(0);
    let outcomes = dir.join("outcomes");
    let child = cx.fork(|cx| {
        play(1);
        (0..graphs.len()).for_each(|world| World(world).settle());
        cx.arrive(sys::gettid());
        crate::context::until_forever(|| outcomes.exists());
    });
    cx.await_arrival(child);
    play(2);
    (0..graphs.len()).for_each(|world| World(world).settle());
    cx.ready_and_wait();
    let told: Vec<String> = (0..graphs.len()).map(|world| World(world).tell(child)).collect();
    cx.publish("outcomes", &told.join("\n"));
    cx.reap(child);
}

/// A world, by its number.
#[derive(Clone, Copy)]
struct World(usize);

impl World {
    fn number(self, slot: usize) -> i32 {
        FIRST + (self.0 * SLOTS + slot % SLOTS) as i32
    }

    /// What is open in a slot.
    fn get(self, slot: usize) -> Option<BorrowedFd<'static>> {
        let number = self.number(slot);
        // SAFETY: the numbers are the worlds' own, and nobody closes one meanwhile.
        let file = unsafe { BorrowedFd::borrow_raw(number) };
        rustix::io::fcntl_getfd(file).is_ok().then_some(file)
    }

    fn put(self, slot: usize, file: &OwnedFd) {
        sys::dup2(file.as_raw_fd(), self.number(slot));
    }

    fn play(self, op: &Op, place: &Path) {
        let Op { verb, slot, with } = *op;
        match verb {
            Verb::Make => {
                let (one, other) = make(with, place, self.get(slot + 2));
                self.put(slot, &one);
                if let Some(other) = other {
                    self.put(slot + 1, &other);
                }
            }
            Verb::Duplicate if self.get(slot).is_some() => {
                sys::dup2(self.number(slot), self.number(with));
            }
            Verb::Close if self.get(slot).is_some() => sys::close(self.number(slot)),
            Verb::Send => {
                if let (Some(file), Some(way)) = (self.get(slot), self.get(with)) {
                    send(way, file);
                }
            }
            Verb::Receive => {
                if let Some(file) = self.get(with).and_then(receive) {
                    self.put(slot, &file);
                }
            }
            Verb::Duplicate | Verb::Close => {}
        }
    }

    /// Hears of errors. A socket that has one to tell and messages too is refused: a peer that closes
    /// before it has read all leaves that.
    fn settle(self) {
        for file in (0..SLOTS).filter_map(|slot| self.get(slot)) {
            // It need not be a socket.
            let _ = rustix::net::sockopt::socket_error(file);
        }
    }

    /// Which open file description is where, in this process, its child and messages; and what they
    /// are.
    fn tell(self, child: i32) -> String {
        let own = sys::own_pid();
        let mut known: Vec<(i32, i32)> = Vec::new();
        let mut told = String::new();
        let mut class = |pid: i32, fd: i32| {
            let found = known.iter().position(|&(other, at)| is_same((pid, fd), (other, at)));
            found.unwrap_or_else(|| {
                known.push((pid, fd));
                known.len() - 1
            })
        };
        let mut ways = Vec::new();
        for pid in [own, child] {
            for slot in 0..SLOTS {
                let fd = self.number(slot);
                if Path::new(&format!("/proc/{pid}/fd/{fd}")).exists() {
                    told += &format!("{} ", class(pid, fd));
                    if pid == own {
                        ways.extend(self.get(slot));
                    }
                } else {
                    told += "- ";
                }
            }
        }
        // What comes out of a socket may have more in flight.
        let mut next = 0;
        while let Some(&way) = ways.get(next) {
            next += 1;
            while let Some(file) = receive(way) {
                told += &format!("{next}:{} ", class(own, file.as_raw_fd()));
                // SAFETY: it stays open.
                ways.push(unsafe { BorrowedFd::borrow_raw(file.as_raw_fd()) });
                std::mem::forget(file);
            }
        }
        let what = known.iter().map(|&(pid, fd)| describe(pid, fd, [own, child]));
        told + &what.collect::<Vec<_>>().join(" ")
    }
}

/// `KCMP_FILE`.
fn is_same((pid, fd): (i32, i32), (other, at): (i32, i32)) -> bool {
    // SAFETY: plain numbers.
    unsafe { libc::syscall(libc::SYS_kcmp, pid, other, 0, fd, at) == 0 }
}

/// What can be known of a file but for numbers that are another each time.
fn describe(pid: i32, fd: i32, processes: [i32; 2]) -> String {
    let link = fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap_or_default();
    let link = link.to_string_lossy();
    let name = match link.split_once(":[") {
        Some((kind @ ("pipe" | "socket"), _)) => kind,
        _ if link.starts_with("/dev/pts/") => "pts",
        _ if link.contains(QUEUE) => "queue",
        // Of a path the last name: its directory is this run's.
        _ => link.rsplit('/').next().unwrap_or_default(),
    };
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
    let told = ["pos:", "flags:", "eventfd-count:", "clockid:", "sigmask:", "tfd:", "Pid:"];
    let lines = info.lines().filter(|line| told.iter().any(|told| line.trim().starts_with(told)));
    let first = lines.map(|line| {
        let words: Vec<_> = line.split_whitespace().take(2).collect();
        let process = processes.iter().position(|pid| words == ["Pid:", &pid.to_string()]);
        process.map_or(words.concat(), |process| format!("process {process}"))
    });
    format!("{name}[{}]", first.collect::<Vec<_>>().join(","))
}

fn send(way: BorrowedFd<'_>, file: BorrowedFd<'_>) {
    let files = [file];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    control.push(SendAncillaryMessage::ScmRights(&files));
    // It need not be a socket, and there need not be anybody to hear.
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let _ = sendmsg(way, &[IoSlice::new(b"x")], &mut control, flags);
}

fn receive(way: BorrowedFd<'_>) -> Option<OwnedFd> {
    let mut byte = [0];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    recvmsg(way, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::DONTWAIT).ok()?;
    let mut files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    files.next()
}

/// How names of queues begin, which the kernel has for all programs.
const QUEUE: &str = "dormouse-worlds.";

fn signals() -> OwnedFd {
    // SAFETY: the set lives over the calls; the descriptor is new.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&raw mut set, libc::SIGUSR1);
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK);
        OwnedFd::from_raw_fd(sys::done(fd).expect("signalfd") as i32)
    }
}

/// An array of `bpf(2)`: three values of 8 bytes.
fn map() -> OwnedFd {
    let attributes = [2 | 4 << 32, 8 | 3 << 32, 0_u64, 0];
    let len = size_of_val(&attributes);
    // SAFETY: the attributes live over the call; the descriptor is new.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, 0, attributes.as_ptr(), len);
        OwnedFd::from_raw_fd(sys::done(fd).expect("BPF_MAP_CREATE") as i32)
    }
}

/// A new file of a kind, with what belongs to it; `place` is a path of its own.
fn make(kind: usize, place: &Path, other: Option<BorrowedFd<'_>>) -> (OwnedFd, Option<OwnedFd>) {
    let file = |flags| {
        File::create(place).and_then(|file| file.set_len(100)).expect("a file");
        open(place, flags, Mode::empty()).expect("open")
    };
    let at = |file: OwnedFd, offset| {
        seek(&file, SeekFrom::Start(offset)).expect("lseek");
        file
    };
    let pair = |kind| {
        let pair = socketpair(AddressFamily::UNIX, kind, SocketFlags::empty(), None);
        let (one, other) = pair.expect("socketpair");
        (one, Some(other))
    };
    let network = |family, kind| socket(family, kind, None).expect("socket");
    let one = match kind % KINDS {
        0 => at(file(OFlags::RDWR), 7),
        1 => at(file(OFlags::RDONLY), 70),
        2 => file(OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK),
        3 => file(OFlags::PATH),
        4 => {
            let file = at(file(OFlags::RDWR), 3);
            fs::remove_file(place).expect("unlink");
            file
        }
        5 => {
            fs::create_dir(place).expect("mkdir");
            open(place, OFlags::RDONLY, Mode::empty()).expect("a directory")
        }
        6 => open("/dev/null", OFlags::RDWR, Mode::empty()).expect("/dev/null"),
        7 => {
            let (from, to) = rustix::pipe::pipe().expect("pipe");
            rustix::io::write(&to, b"text").expect("write");
            return (from, Some(to));
        }
        8 => {
            mknodat(CWD, place, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("mkfifo");
            open(place, OFlags::RDWR, Mode::empty()).expect("a fifo")
        }
        9 => {
            let file = memfd_create("world", MemfdFlags::ALLOW_SEALING).expect("memfd_create");
            rustix::io::write(&file, b"text").expect("write");
            file
        }
        10 => eventfd(5, EventfdFlags::NONBLOCK).expect("eventfd"),
        11 => {
            let (clock, flags) = (TimerfdClockId::Monotonic, TimerfdFlags::empty());
            timerfd_create(clock, flags).expect("timerfd_create")
        }
        12 => inotify::init(inotify::CreateFlags::NONBLOCK).expect("inotify_init1"),
        13 => pidfd_open(getpid(), PidfdFlags::empty()).expect("pidfd_open"),
        14 => {
            let master = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR).expect("a terminal");
            rustix::pty::unlockpt(&master).expect("unlockpt");
            let name = rustix::pty::ptsname(&master, Vec::new()).expect("ptsname");
            let flags = OFlags::RDWR | OFlags::NOCTTY;
            let slave = open(name, flags, Mode::empty()).expect("a terminal");
            return (master, Some(slave));
        }
        15 | 16 => return pair(SocketType::STREAM),
        17 => return pair(SocketType::DGRAM),
        18 => return pair(SocketType::SEQPACKET),
        19 => network(AddressFamily::INET, SocketType::DGRAM),
        20 => network(AddressFamily::NETLINK, SocketType::RAW),
        21 => signals(),
        22 => fanotify::init(libc::FAN_NONBLOCK, libc::O_RDONLY).expect("fanotify_init"),
        23 => {
            let name = place.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("/{QUEUE}{}.{name}", std::process::id());
            let queue = sys::Queue::create(&name, libc::O_NONBLOCK, (2, 16)).expect("mq_open");
            queue.send(b"text", 3).expect("mq_send");
            sys::unlink_queue(&name).expect("mq_unlink");
            queue.into()
        }
        24 => open("/proc/self/ns/uts", OFlags::RDONLY, Mode::empty()).expect("a namespace"),
        25 => network(AddressFamily::PACKET, SocketType::DGRAM),
        26 => TcpListener::bind("127.0.0.1:0").expect("bind").into(),
        27 => UnixListener::bind(place).expect("bind").into(),
        28 => at(open("/proc/self/stat", OFlags::RDONLY, Mode::empty()).expect("stat"), 3),
        29 => open("/proc/self/fdinfo/2", OFlags::RDONLY, Mode::empty()).expect("fdinfo"),
        30 => map(),
        31 => open("/dev/net/tun", OFlags::RDWR, Mode::empty()).expect("a queue of tun"),
        _ => {
            let epoll = epoll::create(epoll::CreateFlags::empty()).expect("epoll_create1");
            if let Some(other) = other {
                // Not every file can be watched.
                let data = epoll::EventData::new_u64(1);
                let _ = epoll::add(&epoll, other.as_fd(), data, epoll::EventFlags::IN);
            }
            epoll
        }
    };
    (one, None)
}
