//! The files of a world, by numbers, and what an operation does to them.

use std::fs;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::fs::inotify;
use rustix::io::ioctl_fionbio;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::op::{FILES, NUMBERS, Op, PLAIN, Verb};
use crate::epoll::target::terminal;
use crate::epoll::watch::at;
use crate::sys::{self, done};
use crate::unix::talk;

/// Where numbers begin that no world gives out: what comes before is this program's.
const FIRST: i32 = 100;

/// How many numbers a world has: those of files, those it gives out, and the ends of its mail.
const ALL: usize = FILES + NUMBERS + 2;

/// The number that a file has anyway.
pub(super) fn home(world: usize, file: usize) -> i32 {
    FIRST + (world * ALL + file) as i32
}

/// One that the world gives out.
pub(super) fn number(world: usize, number: usize) -> i32 {
    home(world, FILES + number)
}

/// An end of the world's mail, where messages come out and where they go in.
fn mail(world: usize, end: usize) -> i32 {
    home(world, FILES + NUMBERS + end)
}

/// Those of a world's files that are not written and read as others are. Not every world has them:
/// there are few, or they take time.
const STREAMS: [usize; 2] = [8, 9];
const TIMER: usize = 12;
const INOTIFY: usize = 13;
const SLAVE: usize = 14;
const MASTER: usize = 15;

fn has_inotify(world: usize) -> bool {
    world % 4 == 1
}

fn has_terminal(world: usize) -> bool {
    world % 3 == 1
}

/// What the inotify of a world watches.
fn watched(world: usize) -> PathBuf {
    format!("watched.{world}").into()
}

/// Puts all files of a new world under their numbers.
pub(super) fn make(world: usize) {
    let event = || eventfd(0, EventfdFlags::NONBLOCK).expect("eventfd");
    let pipe = || pipe_with(PipeFlags::NONBLOCK).expect("pipe");
    let sockets = |kind| {
        socketpair(AddressFamily::UNIX, kind, SocketFlags::NONBLOCK, None).expect("socketpair")
    };
    let pairs = [pipe(), pipe(), sockets(SocketType::STREAM), sockets(SocketType::DGRAM)];
    let mut files = vec![event(), event(), event(), event()];
    files.extend(pairs.into_iter().flat_map(|(one, other)| [one, other]));
    files.push(timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK).expect("timer"));
    files.push(match has_inotify(world) {
        true => {
            fs::create_dir(watched(world)).expect("mkdir");
            let file = inotify::init(inotify::CreateFlags::NONBLOCK).expect("inotify_init1");
            let events = inotify::WatchFlags::CREATE;
            inotify::add_watch(&file, watched(world), events).expect("inotify_add_watch");
            file
        }
        false => event(),
    });
    files.extend(match has_terminal(world) {
        true => {
            let (slave, master) = terminal();
            ioctl_fionbio(&master, true).expect("FIONBIO");
            [slave, master]
        }
        false => [event(), event()],
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

/// Has a file become ready.
fn write(world: usize, file: usize) -> std::io::Result<i64> {
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
        _ => {
            // SAFETY: eight bytes are read.
            let written =
                done(unsafe { libc::write(number, 1_u64.to_ne_bytes().as_ptr().cast(), 8) } as i64);
            if [SLAVE, MASTER].contains(&file) && has_terminal(world) {
                // The kernel moves it later.
                sys::nap(Duration::from_millis(10));
            }
            written
        }
    }
}

/// Reads what no checkpoint keeps: the events of an inotify.
pub(super) fn forget_events(world: usize) {
    while has_inotify(world) && rustix::io::read(at(home(world, INOTIFY)), &mut [0; 4096]).is_ok() {
    }
}

fn receive(world: usize, number: i32) -> String {
    let got = talk::receive(&mail_end(world, 0), 1, RecvFlags::empty());
    match got.map(|got| got.rights) {
        Ok(rights) => {
            for file in &rights {
                sys::dup2(file.as_raw_fd(), number);
            }
            format!("{} came", rights.len())
        }
        Err(error) => format!("Receive {error}"),
    }
}

fn send(world: usize, file: i32) -> String {
    if rustix::io::fcntl_getfd(at(file)).is_err() {
        return "Send closed".to_owned();
    }
    talk::send(&mail_end(world, 1), b"x", &[at(file)]);
    "sent".to_owned()
}

/// A duplicate.
fn mail_end(world: usize, end: usize) -> OwnedFd {
    rustix::io::dup(at(mail(world, end))).expect("dup")
}

fn settle_at(file: OwnedFd, number: i32) {
    if file.as_raw_fd() == number {
        // It stays there.
        let _ = file.into_raw_fd();
    } else {
        sys::dup2(file.as_raw_fd(), number);
    }
}

/// Carries out one operation, in the table of the calling thread; tells what it gave.
pub(super) fn play(world: usize, op: &Op) -> String {
    let Op { verb, actor: _, file, number: given, events, data } = *op;
    let (file, at) = (home(world, file), number(world, given));
    // SAFETY: numbers are the world's own, buffers live over the call and have the stated lengths.
    let result = done(unsafe {
        match verb {
            Verb::Open => libc::dup2(file, at),
            Verb::Close => libc::close(at),
            Verb::Lose => libc::close(file),
            Verb::Add => control(file, libc::EPOLL_CTL_ADD, at, events, data),
            Verb::Modify => control(file, libc::EPOLL_CTL_MOD, at, events, data),
            Verb::Delete => control(file, libc::EPOLL_CTL_DEL, at, 0, 0),
            Verb::Wait => return wait(file, data),
            Verb::Write => return told(verb, write(world, op.file)),
            // What is read of either at once is not kept in its parts.
            Verb::Read if STREAMS.contains(&op.file) || op.file == INOTIFY => {
                libc::read(file, [0_u8; 4096].as_mut_ptr().cast(), 4096) as i32
            }
            Verb::Read => libc::read(file, [0_u8; 8].as_mut_ptr().cast(), 8) as i32,
            Verb::Send => return send(world, file),
            Verb::Receive => return receive(world, at),
        }
    });
    told(verb, result)
}

fn told(verb: Verb, result: std::io::Result<i64>) -> String {
    match result {
        Ok(_) if matches!(verb, Verb::Open) => "ok".to_owned(),
        Ok(value) => value.to_string(),
        Err(error) => format!("{verb:?} {}", error.raw_os_error().unwrap_or(0)),
    }
}

fn control(epoll: i32, operation: i32, target: i32, events: u32, data: u64) -> i32 {
    let mut event = libc::epoll_event { events, u64: data };
    // SAFETY: the event lives over the call.
    unsafe { libc::epoll_ctl(epoll, operation, target, &raw mut event) }
}

fn wait(epoll: i32, most: u64) -> String {
    let most = most.clamp(1, 64) as usize;
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; most];
    // SAFETY: room for `most` events.
    let result = done(unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), most as i32, 0) });
    match result {
        Ok(0) => "none".to_owned(),
        Ok(count) => {
            let told = events.iter().take(count as usize);
            told.map(|event| format!("{:x}:{} ", { event.events }, { event.u64 })).collect()
        }
        Err(error) => format!("Wait {}", error.raw_os_error().unwrap_or(0)),
    }
}
