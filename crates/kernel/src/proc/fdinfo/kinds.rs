//! The lines of single kinds of files.

use crate::proc::scan::{ParseError, Scan};
use crate::{DeviceId, FdNum};

/// One item of an epoll (`ep_show_fdinfo` in `fs/eventpoll.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpollItem {
    /// The descriptor number it was added under. By now that may be closed,
    /// or lead to another file.
    pub fd: FdNum,
    /// `EPOLL*`, with the private bits. `EPOLLERR` and `EPOLLHUP` are always
    /// set, unless the item is a fired `EPOLLONESHOT`.
    pub events: u32,
    /// What `epoll_wait(2)` hands out.
    pub data: u64,
    /// The position of the target file.
    pub pos: i64,
    /// The inode of the target file.
    pub inode: u64,
    /// The device of that inode.
    pub device: DeviceId,
}

pub(super) fn epoll_item(scan: &mut Scan<'_>) -> Result<EpollItem, ParseError> {
    let fd = FdNum::from_raw(scan.next_dec("a descriptor")?);
    scan.label("events:")?;
    let events = scan.hex("events")?;
    scan.label("data:")?;
    let data = scan.hex("data")?;
    scan.label("pos:")?;
    let pos = scan.signed("a position")?;
    scan.label("ino:")?;
    let inode = scan.hex("an inode")?;
    scan.label("sdev:")?;
    let device = device(scan)?;
    Ok(EpollItem { fd, events, data, pos, inode, device })
}

fn device(scan: &mut Scan<'_>) -> Result<DeviceId, ParseError> {
    scan.hex("a device").map(DeviceId::from_kernel)
}

/// A timerfd (`timerfd_show` in `fs/timerfd.c`). Times are seconds and
/// nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerFd {
    /// `CLOCK_*`.
    pub clock: u32,
    /// Expirations nobody has read.
    pub ticks: u64,
    /// `TFD_TIMER_*` it was last set with.
    pub settime_flags: u32,
    /// Until the next expiration, from now on even if it was set as a point
    /// in time; zero when not armed.
    pub value: (u64, u32),
    /// From one expiration to the next; zero for a single one.
    pub interval: (u64, u32),
}

pub(super) fn timerfd(scan: &mut Scan<'_>) -> Result<TimerFd, ParseError> {
    scan.label("clockid:")?;
    let clock = scan.dec("a clock")?;
    scan.end_line();
    scan.label("ticks:")?;
    let ticks = scan.dec("a number of ticks")?;
    scan.end_line();
    scan.label("settime flags:")?;
    let settime_flags = scan.oct("octal flags")?;
    scan.end_line();
    scan.label("it_value:")?;
    let value = time(scan)?;
    scan.label("it_interval:")?;
    let interval = time(scan)?;
    Ok(TimerFd { clock, ticks, settime_flags, value, interval })
}

fn time(scan: &mut Scan<'_>) -> Result<(u64, u32), ParseError> {
    scan.expect("(")?;
    let seconds = scan.dec("seconds")?;
    scan.label(",")?;
    let nanoseconds = scan.dec("nanoseconds")?;
    scan.expect(")")?;
    scan.end_line();
    Ok((seconds, nanoseconds))
}

/// A file handle, see `open_by_handle_at(2)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHandle {
    /// Depends on the file system.
    pub kind: i32,
    /// As the file system made it.
    pub bytes: Box<[u8]>,
}

/// ` fhandle-bytes:8 fhandle-type:1 f_handle:...`, or nothing if the file
/// system gives out no handles.
fn handle(scan: &mut Scan<'_>) -> Result<Option<FileHandle>, ParseError> {
    scan.blanks();
    if !scan.eat(b"fhandle-bytes:") {
        return Ok(None);
    }
    let len: usize = scan.hex("a length")?;
    scan.label("fhandle-type:")?;
    // Printed with %x, though it is signed.
    let kind = scan.hex::<u32>("a handle type")?.cast_signed();
    scan.label("f_handle:")?;
    let here = scan.clone();
    let digits = scan.word();
    if digits.len() != len.saturating_mul(2) {
        return here.error("two digits per byte");
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let bytes: Option<Box<[u8]>> = digits
        .chunks_exact(2)
        .map(|pair| u8::try_from(nibble(pair[0])? << 4 | nibble(pair[1])?).ok())
        .collect();
    match bytes {
        Some(bytes) => Ok(Some(FileHandle { kind, bytes })),
        None => here.error("hexadecimal digits"),
    }
}

/// A watch of an inotify (`inotify_fdinfo` in `fs/notify/fdinfo.c`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InotifyWatch {
    /// Its number.
    pub watch: i32,
    /// The inode watched.
    pub inode: u64,
    /// On which device.
    pub device: DeviceId,
    /// `IN_*`.
    pub mask: u32,
    /// How to open the inode, if the file system tells.
    pub handle: Option<FileHandle>,
}

pub(super) fn inotify_watch(scan: &mut Scan<'_>) -> Result<InotifyWatch, ParseError> {
    let watch = scan.hex("a watch")?;
    scan.label("ino:")?;
    let inode = scan.hex("an inode")?;
    scan.label("sdev:")?;
    let device = device(scan)?;
    scan.label("mask:")?;
    let mask = scan.hex("a mask")?;
    scan.label("ignored_mask:")?;
    // A constant since Linux 5.3.
    scan.hex::<u32>("a mask")?;
    let handle = handle(scan)?;
    Ok(InotifyWatch { watch, inode, device, mask, handle })
}

/// A mark of a fanotify (`fanotify_fdinfo` in `fs/notify/fdinfo.c`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FanotifyMark {
    /// What is marked.
    pub object: FanotifyObject,
    /// `FAN_MARK_IGNORED_SURV_MODIFY`, `FAN_MARK_IGNORE` and the like.
    pub flags: u32,
    /// Events reported.
    pub mask: u32,
    /// Events not reported.
    pub ignored_mask: u32,
}

/// What a fanotify mark is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FanotifyObject {
    /// One inode.
    Inode {
        /// Its number.
        inode: u64,
        /// On which device.
        device: DeviceId,
        /// How to open it, if the file system tells.
        handle: Option<FileHandle>,
    },
    /// A mount, as numbered in mountinfo.
    Mount(i32),
    /// A whole file system.
    FileSystem(DeviceId),
    /// A mount namespace, by the inode of its `/proc/PID/ns/mnt`.
    MountNamespace(u64),
}

pub(super) fn fanotify_mark(scan: &mut Scan<'_>) -> Result<FanotifyMark, ParseError> {
    let mut object = if scan.eat(b"ino:") {
        let inode = scan.hex("an inode")?;
        scan.label("sdev:")?;
        FanotifyObject::Inode { inode, device: device(scan)?, handle: None }
    } else if scan.eat(b"mnt_id:") {
        FanotifyObject::Mount(scan.hex("a mount")?)
    } else if scan.eat(b"sdev:") {
        FanotifyObject::FileSystem(device(scan)?)
    } else {
        scan.label("mnt_ns:")?;
        FanotifyObject::MountNamespace(scan.dec("a mount namespace")?)
    };
    scan.label("mflags:")?;
    let flags = scan.hex("flags")?;
    scan.label("mask:")?;
    let mask = scan.hex("a mask")?;
    scan.label("ignored_mask:")?;
    let ignored_mask = scan.hex("a mask")?;
    if let FanotifyObject::Inode { handle: place, .. } = &mut object {
        *place = handle(scan)?;
    }
    Ok(FanotifyMark { object, flags, mask, ignored_mask })
}

/// A userfaultfd (`userfaultfd_show_fdinfo` in `fs/userfaultfd.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Userfault {
    /// Faults and events nobody has read.
    pub pending: u64,
    /// All faults and events that wait for an answer.
    pub total: u64,
    /// `UFFD_API`.
    pub api: u64,
    /// Features that were asked for.
    pub enabled_features: u32,
    /// Features the kernel has.
    pub features: u64,
}

pub(super) fn userfault(scan: &mut Scan<'_>) -> Result<Userfault, ParseError> {
    scan.label("pending:")?;
    let pending = scan.dec("a number of faults")?;
    scan.end_line();
    scan.label("total:")?;
    let total = scan.dec("a number of faults")?;
    scan.end_line();
    scan.label("API:")?;
    let api = scan.hex("an API")?;
    scan.expect(":")?;
    let enabled_features = scan.hex("features")?;
    scan.expect(":")?;
    let features = scan.hex("features")?;
    scan.end_line();
    Ok(Userfault { pending, total, api, enabled_features, features })
}
