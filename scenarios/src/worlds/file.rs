//! The files of a world: what each is, and how it becomes ready.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::fs::inotify;
use rustix::io::{fcntl_dupfd_cloexec, ioctl_fionbio};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::op::{FILES, NUMBERS, PLAIN};
use crate::Context;
use crate::epoll::target::{connection, datagrams, queue, terminal};
use crate::epoll::watch::{at, signalfd};
use crate::sys::{self, done};

/// A world.
#[derive(Clone, Copy)]
pub(super) struct World {
    /// Which it is of those in this program.
    pub(super) number: usize,
    /// Which files it has: see [`super::History`].
    pub(super) kind: usize,
}

/// Where numbers begin that no world gives out: what comes before is this program's.
const FIRST: i32 = 100;

/// Above the numbers of all worlds: what is never closed.
const KEPT: i32 = 12_000;

/// How many numbers a world has: those of files, those it gives out, and the ends of its mail.
const ALL: usize = FILES + NUMBERS + 2;

/// The number that a file has anyway.
pub(super) fn home(world: World, file: usize) -> i32 {
    FIRST + (world.number * ALL + file) as i32
}

/// One that the world gives out.
pub(super) fn number(world: World, number: usize) -> i32 {
    home(world, FILES + number)
}

/// An end of the world's mail, where messages come out and where they go in.
pub(super) fn mail(world: World, end: usize) -> i32 {
    home(world, FILES + NUMBERS + end)
}

/// The epoll that a thread waits in.
pub(super) fn awaited(world: World) -> i32 {
    home(world, FILES - 1)
}

/// Those of a world's files that are not written and read as others are. Not every world has them:
/// there are few, or they take time.
const STREAMS: [usize; 2] = [8, 9];
const TIMER: usize = 12;
const INOTIFY: usize = 13;
const TERMINAL: [usize; 2] = [14, 15];
const TCP: [usize; 2] = [16, 17];
const UDP: [usize; 2] = [18, 19];
const LISTENER: usize = 20;
const QUEUE: usize = 21;
const SIGNALS: usize = 22;

/// Seldom: a user has 128 of them on the whole machine.
fn has_inotify(world: World) -> bool {
    world.kind % 16 == 1
}

fn has_terminal(world: World) -> bool {
    world.kind % 3 == 1
}

fn has_internet(world: World) -> bool {
    world.kind % 3 == 2
}

/// Of TCP, or a unix one.
fn has_listener(world: World, of_tcp: bool) -> bool {
    world.kind % 5 == if of_tcp { 2 } else { 3 }
}

fn has_queue(world: World) -> bool {
    world.kind % 4 == 3
}

fn has_signals(world: World) -> bool {
    world.kind % 5 == 4
}

fn has_pidfd(world: World) -> bool {
    world.kind % 4 == 2
}

pub(super) fn has_waiter(world: World) -> bool {
    world.kind.is_multiple_of(3)
}

/// What the inotify of a world watches.
fn watched(world: World) -> PathBuf {
    format!("watched.{}", world.number).into()
}

/// Where the unix listener of a world listens.
fn listens(world: World) -> PathBuf {
    format!("listener.{}", world.number).into()
}

/// The one of the world with this number. Few worlds share one.
fn signal(number: usize) -> i32 {
    libc::SIGRTMIN() + 2 + (number % 25) as i32
}

/// All signals of worlds wait, for whoever they are sent to.
pub(super) fn block_signals() {
    let all: Vec<_> = (0..25).map(signal).collect();
    sys::block(sys::sigset(&all));
}

/// Where the listeners of TCP listen.
static LISTENING: Mutex<BTreeMap<usize, SocketAddr>> = Mutex::new(BTreeMap::new());

/// Puts all files of a new world under their numbers.
pub(super) fn make(cx: &Context, world: World) {
    let event = || eventfd(0, EventfdFlags::NONBLOCK).expect("eventfd");
    let pipe = || pipe_with(PipeFlags::NONBLOCK).expect("pipe");
    let sockets = |kind| {
        socketpair(AddressFamily::UNIX, kind, SocketFlags::NONBLOCK, None).expect("socketpair")
    };
    let pairs = [pipe(), pipe(), sockets(SocketType::STREAM), sockets(SocketType::DGRAM)];
    let mut files = vec![event(), event(), event(), event()];
    files.extend(pairs.into_iter().flat_map(|(one, other)| [one, other]));
    files.push(timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK).expect("timer"));
    files.push(if has_inotify(world) { inotify(world) } else { event() });
    files.extend(match has_terminal(world) {
        true => both(terminal()),
        false => [event(), event()],
    });
    let internet = |make: fn(&Context) -> _| match has_internet(world) {
        true => both(make(cx)),
        false => [event(), event()],
    };
    files.extend(internet(|cx| {
        let (one, other) = connection(cx);
        for end in [&one, &other] {
            // Or bytes wait for those before to be acknowledged, which takes its time.
            rustix::net::sockopt::set_tcp_nodelay(end, true).expect("TCP_NODELAY");
        }
        (one, other)
    }));
    files.extend(internet(datagrams));
    files.push(listener(cx, world).unwrap_or_else(event));
    files.push(if has_queue(world) { queue().0 } else { event() });
    files.push(if has_signals(world) { signalfd(signal(world.number)) } else { event() });
    files.push(match has_pidfd(world) {
        true => pidfd_open(getpid(), PidfdFlags::NONBLOCK).expect("pidfd_open"),
        false => event(),
    });
    assert_eq!(files.len(), PLAIN);
    let epoll = |_| epoll::create(epoll::CreateFlags::empty()).expect("epoll_create1");
    files.extend((PLAIN..FILES).map(epoll));
    for (place, file) in files.into_iter().enumerate() {
        settle_at(file, home(world, place));
    }
    let (one, other) = sockets(SocketType::DGRAM);
    settle_at(one, mail(world, 0));
    settle_at(other, mail(world, 1));
}

fn both((one, other): (OwnedFd, OwnedFd)) -> [OwnedFd; 2] {
    ioctl_fionbio(&one, true).expect("FIONBIO");
    ioctl_fionbio(&other, true).expect("FIONBIO");
    [one, other]
}

fn inotify(world: World) -> OwnedFd {
    fs::create_dir(watched(world)).expect("mkdir");
    let file = inotify::init(inotify::CreateFlags::NONBLOCK).expect("inotify_init1");
    let events = inotify::WatchFlags::CREATE;
    inotify::add_watch(&file, watched(world), events).expect("inotify_add_watch");
    file
}

fn listener(cx: &Context, world: World) -> Option<OwnedFd> {
    let file: OwnedFd = if has_listener(world, true) {
        let listener = TcpListener::bind((crate::inet::place::v4(cx, 0).ip(), 0)).expect("bind");
        let at = listener.local_addr().expect("an address");
        LISTENING.lock().expect("no panic").insert(world.number, at);
        listener.into()
    } else if has_listener(world, false) {
        UnixListener::bind(listens(world)).expect("bind").into()
    } else {
        return None;
    };
    ioctl_fionbio(&file, true).expect("FIONBIO");
    Some(file)
}

/// Calls on the listener of a world, and stays on the line.
fn call(world: World) -> std::io::Result<i64> {
    let caller: OwnedFd = match has_listener(world, true) {
        true => {
            let at = LISTENING.lock().expect("no panic")[&world.number];
            TcpStream::connect(at)?.into()
        }
        false => UnixStream::connect(listens(world))?.into(),
    };
    let _ = fcntl_dupfd_cloexec(caller, KEPT)?.into_raw_fd();
    Ok(0)
}

/// Has a file become ready.
pub(super) fn write(world: World, file: usize, actor: usize) -> std::io::Result<i64> {
    static NAMES: AtomicU32 = AtomicU32::new(0);
    let number = home(world, file);
    match file {
        TIMER => {
            let never = Timespec { tv_sec: 0, tv_nsec: 0 };
            let soon = Timespec { tv_sec: 0, tv_nsec: 1 };
            let time = Itimerspec { it_interval: never, it_value: soon };
            timerfd_settime(at(number), TimerfdTimerFlags::empty(), &time)?;
            // It expires at once, but not in this call.
            let second = Timespec { tv_sec: 1, tv_nsec: 0 };
            poll(&mut [PollFd::from_borrowed_fd(at(number), PollFlags::IN)], Some(&second))?;
            Ok(0)
        }
        INOTIFY if has_inotify(world) => {
            // Events that are the same are told once.
            let name = NAMES.fetch_add(1, Ordering::Relaxed);
            fs::write(watched(world).join(format!("{}.{name}", sys::gettid())), "")?;
            Ok(0)
        }
        LISTENER if has_listener(world, true) || has_listener(world, false) => call(world),
        SIGNALS if has_signals(world) => {
            // To the thread, if it is one.
            let thread = (actor == 2).then(sys::gettid);
            sys::queue(sys::own_pid(), thread, signal(world.number), 0)?;
            Ok(0)
        }
        _ => {
            // SAFETY: eight bytes are read.
            let written =
                done(unsafe { libc::write(number, 1_u64.to_ne_bytes().as_ptr().cast(), 8) } as i64);
            if TERMINAL.contains(&file) && has_terminal(world) {
                // The kernel moves it later.
                sys::nap(Duration::from_millis(10));
            }
            if [TCP, UDP].as_flattened().contains(&file) && has_internet(world) {
                sys::nap(Duration::from_millis(1));
            }
            written
        }
    }
}

/// Takes from a file what has made it ready.
pub(super) fn read(world: World, file: usize) -> std::io::Result<i64> {
    let number = home(world, file);
    let mut bytes = [0_u8; 4096];
    match file {
        LISTENER if has_listener(world, true) || has_listener(world, false) => {
            let end = rustix::net::accept(at(number))?;
            let _ = fcntl_dupfd_cloexec(end, KEPT)?.into_raw_fd();
            Ok(0)
        }
        QUEUE if has_queue(world) => {
            // SAFETY: there is room for as much as is said.
            let len = unsafe {
                libc::mq_receive(
                    number,
                    bytes.as_mut_ptr().cast(),
                    bytes.len(),
                    std::ptr::null_mut(),
                )
            };
            done(len as i64)
        }
        _ => {
            // What is read of a stream at once is not kept in its parts, and an event of an inotify or a
            // signal takes more.
            let whole = STREAMS.contains(&file) || [INOTIFY, SIGNALS].contains(&file);
            let most = if whole { bytes.len() } else { 8 };
            // SAFETY: there is room for as much as is said.
            done(unsafe { libc::read(number, bytes.as_mut_ptr().cast(), most) } as i64)
        }
    }
}

/// Reads what no checkpoint keeps: the events of an inotify.
pub(super) fn forget_events(world: World) {
    while has_inotify(world) && rustix::io::read(at(home(world, INOTIFY)), &mut [0; 4096]).is_ok() {
    }
}

fn settle_at(file: OwnedFd, number: i32) {
    if file.as_raw_fd() == number {
        // It stays there.
        let _ = file.into_raw_fd();
    } else {
        sys::dup2(file.as_raw_fd(), number);
    }
}
