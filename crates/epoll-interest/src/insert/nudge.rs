//! Making a file report something for a moment, and nothing again.
//!
//! Only where that can be undone without a trace: whoever polls the file
//! afterwards, reads or writes it, finds it as it was.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::fs::{FileType, MemfdFlags, Mode, OFlags, inotify, memfd_create};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::time::{Itimerspec, TimerfdTimerFlags, timerfd_gettime, timerfd_settime};

use super::fanotify;
use crate::event::Events;

/// A file that reports something, until this is undone.
pub(super) enum Nudge<'fd> {
    /// An epoll, with a ready item added.
    Epoll { epoll: BorrowedFd<'fd>, item: OwnedFd },
    /// An empty pipe, with a byte written.
    Written { reader: BorrowedFd<'fd> },
    /// A full pipe, with its capacity raised from this many bytes.
    Widened { writer: BorrowedFd<'fd>, capacity: usize },
    /// A disarmed timer, expired.
    Timer { timer: BorrowedFd<'fd> },
    /// An inotify, with a watch added on a file that was opened, and that is
    /// there as long as the watch.
    Inotify { inotify: BorrowedFd<'fd>, watch: i32, file: OwnedFd },
    /// A fanotify, with a mark added on a directory that was opened.
    Fanotify { group: BorrowedFd<'fd>, directory: OwnedFd },
}

impl<'fd> Nudge<'fd> {
    /// Makes a file that reports nothing report something. `None` if there is
    /// no way for its kind.
    pub(super) fn give(fd: BorrowedFd<'fd>) -> Option<Self> {
        if FileType::from_raw_mode(rustix::fs::fstat(fd).ok()?.st_mode) == FileType::Fifo {
            return Self::pipe(fd).ok();
        }
        let nudge = match kind(fd).ok()?.as_slice() {
            b"anon_inode:[eventpoll]" => Self::epoll(fd),
            b"anon_inode:[timerfd]" => Self::timer(fd),
            INOTIFY => Self::inotify(fd),
            FANOTIFY => Self::fanotify(fd),
            _ => return None,
        };
        let nudge = nudge.ok()?;
        // What holds is what the file reports, not what should have helped.
        match any_condition(&[fd]) {
            Ok(told) if told == [true] => Some(nudge),
            _ => {
                // Nothing came of it, so nothing is lost if undoing fails too.
                let _ = nudge.undo();
                None
            }
        }
    }

    pub(super) fn undo(self) -> io::Result<()> {
        match self {
            Self::Epoll { epoll, item } => epoll::delete(epoll, &item)?,
            Self::Written { reader } => {
                rustix::io::read(reader, &mut [0])?;
            }
            Self::Widened { writer, capacity } => {
                rustix::pipe::fcntl_setpipe_size(writer, capacity)?;
            }
            Self::Timer { timer } => {
                timerfd_settime(timer, TimerfdTimerFlags::empty(), &NEVER)?;
            }
            Self::Inotify { inotify, watch, file } => {
                inotify::remove_watch(inotify, watch)?;
                drop(file);
                // That is reported too.
                let mut events = [0; 4096];
                while rustix::io::ioctl_fionread(inotify)? > 0 {
                    rustix::io::read(inotify, &mut events)?;
                }
            }
            Self::Fanotify { group, directory } => {
                fanotify::unmark(group, &own_path(directory.as_fd()))?;
                while rustix::io::ioctl_fionread(group)? > 0 {
                    fanotify::discard(group)?;
                }
            }
        }
        Ok(())
    }

    fn epoll(epoll: BorrowedFd<'fd>) -> io::Result<Self> {
        let item = eventfd(0, EventfdFlags::CLOEXEC)?;
        epoll::add(epoll, &item, epoll::EventData::new_u64(0), epoll::EventFlags::OUT)?;
        Ok(Self::Epoll { epoll, item })
    }

    fn pipe(fd: BorrowedFd<'fd>) -> io::Result<Self> {
        let mode = rustix::fs::fcntl_getfl(fd)? & OFlags::ACCMODE;
        if mode == OFlags::WRONLY {
            // Nothing to report on a writing end: it is full, with a reader.
            let capacity = rustix::pipe::fcntl_getpipe_size(fd)?;
            rustix::pipe::fcntl_setpipe_size(fd, 2 * capacity)?;
            return Ok(Self::Widened { writer: fd, capacity });
        }
        // Nothing to report on a reading end: it is empty, with a writer.
        let path = own_path(fd);
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let writer = rustix::fs::open(path, flags, Mode::empty())?;
        rustix::io::write(&writer, &[0])?;
        Ok(Self::Written { reader: fd })
    }

    fn timer(timer: BorrowedFd<'fd>) -> io::Result<Self> {
        if timerfd_gettime(timer)?.it_value != NEVER.it_value {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let at_once = Itimerspec { it_value: Timespec { tv_sec: 0, tv_nsec: 1 }, ..NEVER };
        timerfd_settime(timer, TimerfdTimerFlags::empty(), &at_once)?;
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        poll(&mut [PollFd::from_borrowed_fd(timer.as_fd(), PollFlags::IN)], Some(&second))?;
        Ok(Self::Timer { timer })
    }

    fn inotify(inotify: BorrowedFd<'fd>) -> io::Result<Self> {
        let file = memfd_create("epoll-interest", MemfdFlags::CLOEXEC)?;
        let path = own_path(file.as_fd());
        let watch = inotify::add_watch(inotify, &path, inotify::WatchFlags::OPEN)?;
        let nudge = Self::Inotify { inotify, watch, file };
        match rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(_) => Ok(nudge),
            Err(error) => nudge.undo().and(Err(error.into())),
        }
    }

    fn fanotify(group: BorrowedFd<'fd>) -> io::Result<Self> {
        // A directory, as every group tells of those, on a file system that nobody else sees.
        let system = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(system.as_fd())?;
        let none = MountAttrFlags::empty();
        let directory = fsmount(system.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, none)?;
        let path = own_path(directory.as_fd());
        fanotify::mark(group, &path)?;
        let nudge = Self::Fanotify { group, directory };
        match rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(_) => Ok(nudge),
            Err(error) => nudge.undo().and(Err(error.into())),
        }
    }
}

const INOTIFY: &[u8] = b"anon_inode:inotify";
const FANOTIFY: &[u8] = b"anon_inode:[fanotify]";

/// Whether a file is to be nudged when it is in its final state, and not
/// while it is new: watches are numbered in the order they are added, so those
/// that are to stay come first. A fanotify may report something then anyway.
pub(super) fn comes_late(fd: BorrowedFd<'_>) -> bool {
    kind(fd).is_ok_and(|kind| [INOTIFY, FANOTIFY].contains(&kind.as_slice()))
}

fn own_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/thread-self/fd/{}", fd.as_raw_fd())
}

const ZERO: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
const NEVER: Itimerspec = Itimerspec { it_interval: ZERO, it_value: ZERO };

/// What the descriptor's link in `/proc` says it is.
fn kind(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    Ok(rustix::fs::readlink(own_path(fd), Vec::new())?.into_bytes())
}

/// For each file, whether it reports any condition at all.
pub(super) fn any_condition(fds: &[BorrowedFd<'_>]) -> io::Result<Vec<bool>> {
    let mut all = Vec::with_capacity(fds.len());
    let conditions = PollFlags::from_bits_retain(Events::CONDITIONS.bits() as u16);
    for some in fds.chunks(256) {
        let asked = some.iter().map(|&fd| PollFd::from_borrowed_fd(fd, conditions));
        let mut asked: Vec<_> = asked.collect();
        rustix::io::retry_on_intr(|| poll(&mut asked, Some(&ZERO)))?;
        all.extend(asked.iter().map(|asked| !asked.revents().is_empty()));
    }
    Ok(all)
}
