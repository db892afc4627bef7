//! `/proc/PID/fdinfo/N`.

mod kinds;
mod lock;

pub use kinds::{
    EpollItem, FanotifyMark, FanotifyObject, FileHandle, InotifyWatch, TimerFd, Userfault,
};
pub use lock::{FileLock, LeaseState, LockKind, LockMode};

use super::scan::{ParseError, Scan};
use crate::signal::SigSet;
use crate::{FdNum, HostPid, NsPid};
use rustix::fs::OFlags;

/// What the kernel tells of every descriptor (`seq_show` in `fs/proc/fd.c`),
/// and what it tells of some kinds beyond that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FdInfo {
    /// The file position; 0 where there is none.
    pub pos: i64,
    /// The status flags of the open file description, with the access mode,
    /// `O_PATH`, `O_LARGEFILE`, and the descriptor's own `O_CLOEXEC`.
    pub flags: OFlags,
    /// The mount it was opened through, as in mountinfo. Mounts of the
    /// kernel's own (pipes, sockets, anonymous inodes) are in no mountinfo.
    pub mount_id: i32,
    /// The inode; `None` before Linux 5.14.
    pub inode: Option<u64>,
    /// Locks and leases: those of the open file description, and of POSIX
    /// locks those the process took through it.
    pub locks: Vec<FileLock>,
    /// What is told of its kind.
    pub extra: Extra,
}

/// What fdinfo tells of some kinds of files.
///
/// This follows the labels of the lines: a kind that shows no line of its
/// own (an epoll that watches nothing, say) is [`Extra::None`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extra {
    /// Nothing.
    None,
    /// eventfd.
    Eventfd {
        /// The counter.
        count: u64,
        /// The same for all descriptors of the one object; `None` before
        /// Linux 5.2.
        id: Option<u32>,
        /// `EFD_SEMAPHORE`; `None` before Linux 6.5.
        semaphore: Option<bool>,
    },
    /// epoll, in the order of the kernel's tree: by the address of the file,
    /// then by descriptor number. At least one, and not all: see `ProcDir::fdinfo`.
    Epoll(Vec<EpollItem>),
    /// signalfd, with the signals it takes.
    Signalfd(SigSet),
    /// timerfd.
    Timerfd(TimerFd),
    /// inotify, the newest watch first. At least one.
    Inotify(Vec<InotifyWatch>),
    /// fanotify.
    Fanotify {
        /// `FAN_*` of `fanotify_init(2)`.
        flags: u32,
        /// `event_f_flags` of `fanotify_init(2)`.
        event_flags: u32,
        /// Marks, the newest first.
        marks: Vec<FanotifyMark>,
    },
    /// pidfd.
    Pidfd(PidfdTarget),
    /// A Unix socket.
    UnixSocket {
        /// Descriptors in messages that wait to be received.
        queued_fds: u32,
    },
    /// A terminal.
    Tty {
        /// The number of the pair, of a pseudo terminal.
        index: i32,
    },
    /// `/dev/net/tun`.
    Tun {
        /// The interface it is attached to.
        interface: Option<Box<[u8]>>,
    },
    /// userfaultfd.
    Userfaultfd(Userfault),
    /// Lines this program has no meaning for, as they are.
    Unknown(Box<[u8]>),
}

/// Which task a pidfd stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PidfdTarget {
    /// A task, or a zombie.
    Task {
        /// In the reader's pid namespace.
        pid: HostPid,
        /// In each pid namespace from the reader's inwards.
        ns_pids: Vec<NsPid>,
    },
    /// A task in no namespace the reader can see into.
    Invisible,
    /// Dead and reaped.
    Reaped,
}

impl FdInfo {
    /// Reads the whole file.
    ///
    /// # Errors
    ///
    /// A field is missing or malformed. A line that is not known is no error,
    /// it goes to [`Extra::Unknown`] with all that follow.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut scan = Scan::new(bytes);
        let scan = &mut scan;
        scan.label("pos:")?;
        let pos = scan.signed("a position")?;
        scan.end_line();
        scan.label("flags:")?;
        let flags = OFlags::from_bits_retain(scan.oct("octal flags")?);
        scan.end_line();
        scan.label("mnt_id:")?;
        let mount_id = scan.signed("a mount")?;
        scan.end_line();
        let inode = if scan.eat(b"ino:") {
            let inode = scan.next_dec("an inode")?;
            scan.end_line();
            Some(inode)
        } else {
            None
        };
        let mut locks = Vec::new();
        while scan.eat(b"lock:") {
            locks.push(FileLock::parse(scan)?);
        }
        let extra = extra(scan)?;
        Ok(Self { pos, flags, mount_id, inode, locks, extra })
    }

    /// Whether the descriptor closes on exec.
    #[must_use]
    pub const fn close_on_exec(&self) -> bool {
        self.flags.contains(OFlags::CLOEXEC)
    }
}

fn extra(scan: &mut Scan<'_>) -> Result<Extra, ParseError> {
    let extra = match scan.rest() {
        [] => return Ok(Extra::None),
        [b'e', b'v', ..] => eventfd(scan)?,
        [b't', b'f', ..] => Extra::Epoll(all(scan, b"tfd:", kinds::epoll_item)?),
        [b's', b'i', ..] => {
            scan.label("sigmask:")?;
            let set = SigSet::from_raw(scan.hex("a signal set")?);
            scan.end_line();
            Extra::Signalfd(set)
        }
        [b'c', b'l', ..] => Extra::Timerfd(kinds::timerfd(scan)?),
        [b'i', b'n', b'o', ..] => Extra::Inotify(all(scan, b"inotify wd:", kinds::inotify_watch)?),
        [b'f', b'a', b'n', ..] => {
            scan.expect("fanotify flags:")?;
            let flags = scan.hex("flags")?;
            scan.label("event-flags:")?;
            let event_flags = scan.hex("flags")?;
            scan.end_line();
            let marks = all(scan, b"fanotify ", kinds::fanotify_mark)?;
            Extra::Fanotify { flags, event_flags, marks }
        }
        [b'P', b'i', b'd', b':', ..] => Extra::Pidfd(pidfd(scan)?),
        [b's', b'c', b'm', ..] => {
            scan.label("scm_fds:")?;
            let queued_fds = scan.dec("a number of descriptors")?;
            scan.end_line();
            Extra::UnixSocket { queued_fds }
        }
        [b't', b't', b'y', ..] => {
            scan.label("tty-index:")?;
            let index = scan.signed("a terminal")?;
            scan.end_line();
            Extra::Tty { index }
        }
        [b'i', b'f', b'f', ..] => {
            scan.label("iff:")?;
            let name = scan.line();
            Extra::Tun { interface: (!name.is_empty()).then(|| name.into()) }
        }
        [b'p', b'e', b'n', ..] => Extra::Userfaultfd(kinds::userfault(scan)?),
        unknown => {
            scan.skip(unknown.len());
            Extra::Unknown(unknown.into())
        }
    };
    scan.end();
    Ok(extra)
}

/// One value per line, as long as the lines start with `label`.
fn all<T>(
    scan: &mut Scan<'_>,
    label: &[u8],
    one: fn(&mut Scan<'_>) -> Result<T, ParseError>,
) -> Result<Vec<T>, ParseError> {
    let mut values = Vec::new();
    while scan.eat(label) {
        values.push(one(scan)?);
        scan.end_line();
    }
    Ok(values)
}

fn eventfd(scan: &mut Scan<'_>) -> Result<Extra, ParseError> {
    scan.label("eventfd-count:")?;
    let count = scan.hex("a count")?;
    scan.end_line();
    let id = if scan.eat(b"eventfd-id:") {
        let id = scan.next_dec("an id")?;
        scan.end_line();
        Some(id)
    } else {
        None
    };
    let semaphore = if scan.eat(b"eventfd-semaphore:") {
        let semaphore: u32 = scan.next_dec("0 or 1")?;
        scan.end_line();
        Some(semaphore != 0)
    } else {
        None
    };
    Ok(Extra::Eventfd { count, id, semaphore })
}

fn pidfd(scan: &mut Scan<'_>) -> Result<PidfdTarget, ParseError> {
    scan.label("Pid:")?;
    let pid: i32 = scan.signed("a pid")?;
    scan.end_line();
    let mut ns_pids = Vec::new();
    if scan.eat(b"NSpid:") {
        scan.blanks();
        while matches!(scan.peek(), Some(b'-' | b'0'..=b'9')) {
            ns_pids.extend(NsPid::from_raw(scan.signed("a pid")?));
            scan.blanks();
        }
        scan.end_line();
    }
    Ok(match (pid, HostPid::from_raw(pid)) {
        (_, Some(pid)) => PidfdTarget::Task { pid, ns_pids },
        (0, None) => PidfdTarget::Invisible,
        (_, None) => PidfdTarget::Reaped,
    })
}

impl Extra {
    /// The items of an epoll; none for other kinds.
    #[must_use]
    pub fn epoll_items(&self) -> &[EpollItem] {
        match self {
            Self::Epoll(items) => items,
            _ => &[],
        }
    }

    /// The descriptor numbers an epoll watches, in the kernel's order.
    pub fn epoll_targets(&self) -> impl Iterator<Item = FdNum> {
        self.epoll_items().iter().map(|item| item.fd)
    }
}

#[cfg(test)]
mod tests;
