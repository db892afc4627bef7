//! Requests that wait, to be made again.
//!
//! Where a program could tell a request made again from the one before, it is refused.

use dormouse_image::proto::files::io_uring::IoUringRequestEntry;
use dormouse_kernel::NsPid;
use dormouse_kernel::io_uring::{SQE_CQE_SKIP_SUCCESS, SQE_FIXED_FILE};
use rustix::time::{ClockId, clock_gettime};

use super::Problem;
use super::waiting::{Asked, OP_ACCEPT, OP_POLL_ADD, OP_READ, OP_RECV, OP_TIMEOUT, Waiting};
use crate::file::FileRef;

/// A request (`struct io_uring_sqe`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Who makes it.
    pub(super) task: NsPid,
    pub(super) file: Option<FileRef>,
    pub(super) operation: u8,
    pub(super) flags: u8,
    pub(super) priority: u16,
    pub(super) offset: u64,
    pub(super) address: u64,
    pub(super) len: u32,
    pub(super) operation_flags: u32,
    pub(super) data: u64,
    /// Seconds and nanoseconds, of a timeout.
    pub(super) time: Option<(u64, u32)>,
    /// The events that it has told of, and which are still there.
    pub(super) told: u32,
}

/// What a request is on, as far as that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// A socket of the internet's protocols.
    Internet,
    /// A signalfd, which is ready to some tasks and not to others.
    Signals,
    Other,
}

/// What a user can do about it.
const READ_ALL: &str = "dump again when the program has none of these requests in flight";

const EPOLLONESHOT: u32 = 1 << 30;
const EPOLLET: u32 = 1 << 31;
/// All that may be asked of one.
const SKIP: u8 = SQE_CQE_SKIP_SUCCESS;
/// `IORING_POLL_ADD_MULTI` and `IORING_POLL_ADD_LEVEL`.
const MULTI: u32 = 1;
const LEVEL: u32 = 8;
/// `IORING_CQE_F_MORE`.
const MORE: u32 = 2;
/// What a poll tells of in any case: `POLLERR`, `POLLHUP`, `POLLRDHUP`.
const UNASKED: u32 = 0x2018;
/// `IORING_ACCEPT_MULTISHOT` and `IORING_ACCEPT_POLL_FIRST`.
const ACCEPT_MULTI: u16 = 1;
const ACCEPT_POLL_FIRST: u16 = 4;
/// `IORING_RECVSEND_POLL_FIRST`.
const POLL_FIRST: u16 = 1;
/// `IORING_TIMEOUT_*`.
const ABSOLUTE: u32 = 1;
const BOOTTIME: u32 = 1 << 2;
const REALTIME: u32 = 1 << 3;
const ETIME_SUCCESS: u32 = 1 << 5;
/// The file's own place, if it has one.
const CURRENT: u64 = u64::MAX;
const NANOS: u64 = 1_000_000_000;

impl Request {
    /// Of what was found, on such a file.
    pub(super) fn of(
        waiting: &Waiting,
        task: NsPid,
        on: Option<(FileRef, On)>,
    ) -> Result<Self, Problem> {
        let (file, on) = on.unzip();
        let Waiting { data, operation, flags, asked, .. } = *waiting;
        // The file is the same by whatever number it was named.
        let flags = flags & !SQE_FIXED_FILE;
        let blank = Self {
            task,
            file,
            operation,
            flags,
            priority: 0,
            offset: 0,
            address: 0,
            len: 0,
            operation_flags: 0,
            data,
            time: None,
            told: 0,
        };
        match asked {
            Asked::Poll { events } if events & EPOLLONESHOT == 0 && on == Some(On::Signals) => {
                Err(("a request is in flight that tells of signals many times", READ_ALL))
            }
            Asked::Poll { events } => {
                let multi = if events & EPOLLONESHOT == 0 { MULTI } else { 0 };
                let level = if events & EPOLLET == 0 { LEVEL } else { 0 };
                let operation_flags = events & !(EPOLLONESHOT | EPOLLET);
                Ok(Self { len: multi | level, operation_flags, ..blank })
            }
            Asked::Accept { address, len, flags, priority, slot: 0 } => Ok(Self {
                priority: priority as u16 | ACCEPT_POLL_FIRST,
                offset: len,
                address,
                operation_flags: flags,
                ..blank
            }),
            Asked::Accept { .. } => Err((
                "a request is in flight that accepts connections as registered files",
                READ_ALL,
            )),
            Asked::Receive { priority, .. } if priority & !POLL_FIRST != 0 => {
                Err(("a request is in flight that receives many times", READ_ALL))
            }
            Asked::Receive { buffer: address, len, done: 0, flags, .. } => {
                Ok(Self { priority: POLL_FIRST, address, len, operation_flags: flags, ..blank })
            }
            Asked::Receive { .. } => Err(("a request is in flight that is half done", READ_ALL)),
            // A connection that is being restored can be waited for, and not read from.
            Asked::Read { buffer: address, len, flags: 0 } if on == Some(On::Internet) => {
                Ok(Self { operation: OP_RECV, priority: POLL_FIRST, address, len, ..blank })
            }
            Asked::Read { buffer: address, len, flags } => {
                Ok(Self { offset: CURRENT, address, len, operation_flags: flags, ..blank })
            }
            Asked::Timeout { count: 0, flags, .. }
                if flags & !(ABSOLUTE | BOOTTIME | REALTIME | ETIME_SUCCESS) == 0 =>
            {
                Ok(blank.timed(asked))
            }
            Asked::Timeout { .. } => {
                Err(("a timeout is in flight that counts completions, or comes again", READ_ALL))
            }
            Asked::Other => {
                Err(("requests are in flight of a kind that cannot be made again", READ_ALL))
            }
        }
    }

    /// A timeout ends at its moment of the day, or when as much time has gone as was left of it.
    fn timed(self, asked: Asked) -> Self {
        let Asked::Timeout { expires, time: [seconds, nanos], flags, .. } = asked else {
            return self;
        };
        if flags & ABSOLUTE != 0 && flags & REALTIME != 0 {
            let time = Some((seconds, nanos as u32));
            return Self { len: 1, operation_flags: flags, time, ..self };
        }
        // A span of real time is one of monotonic time (`__hrtimer_setup`).
        let clock = if flags & BOOTTIME == 0 { ClockId::Monotonic } else { ClockId::Boottime };
        let now = clock_gettime(clock);
        let now = now.tv_sec.cast_unsigned().saturating_mul(NANOS) + now.tv_nsec as u64;
        let left = expires.saturating_sub(now).max(1);
        let time = Some((left / NANOS, (left % NANOS) as u32));
        Self { len: 1, operation_flags: flags & !ABSOLUTE, time, ..self }
    }

    /// Whether it tells as soon as it is made of what is there already, which the one before may
    /// have told of.
    pub(super) fn tells_when_made(&self) -> bool {
        self.operation == OP_POLL_ADD && self.len & (MULTI | LEVEL) == MULTI
    }

    /// It has told of these events.
    pub(super) fn has_told(&mut self, events: u32) {
        self.told = events & (self.operation_flags | UNASKED);
    }

    /// Whether a completion is only what was told of before.
    pub(super) fn knows(&self, data: u64, result: i32, flags: u32) -> bool {
        data == self.data && flags == MORE && result > 0 && result as u32 & !self.told == 0
    }

    pub(super) fn encode(&self) -> IoUringRequestEntry {
        let Self {
            task,
            file,
            operation,
            flags,
            priority,
            offset,
            address,
            len,
            operation_flags,
            data,
            time,
            told,
        } = self;
        IoUringRequestEntry {
            task: task.as_raw().unsigned_abs(),
            file: file.map(|file| file.0.as_raw()),
            operation: (*operation).into(),
            flags: (*flags).into(),
            priority: (*priority).into(),
            offset: *offset,
            address: *address,
            len: *len,
            operation_flags: *operation_flags,
            data: *data,
            seconds: time.map(|(seconds, _)| seconds),
            nanos: time.map(|(_, nanos)| nanos),
            told: (*told != 0).then_some(*told),
        }
    }

    /// `None`: it makes no sense. `refer` gives the file.
    pub(super) fn decode(
        entry: &IoUringRequestEntry,
        refer: impl FnOnce(u32) -> FileRef,
    ) -> Option<Self> {
        let IoUringRequestEntry { task, file, operation, flags, priority, offset, .. } = *entry;
        let IoUringRequestEntry {
            address, len, operation_flags, data, seconds, nanos, told, ..
        } = *entry;
        let operation = u8::try_from(operation).ok()?;
        let flags = u8::try_from(flags).ok().filter(|flags| flags & !SKIP == 0)?;
        let priority = u16::try_from(priority).ok()?;
        let known = match operation {
            OP_POLL_ADD => {
                priority == 0 && len & !(MULTI | LEVEL) == 0 && (offset, address) == (0, 0)
            }
            OP_ACCEPT => priority & !(ACCEPT_MULTI | 2) == ACCEPT_POLL_FIRST && len == 0,
            OP_RECV => priority == POLL_FIRST && offset == 0,
            OP_READ => priority == 0 && offset == CURRENT,
            OP_TIMEOUT => {
                let known = ABSOLUTE | BOOTTIME | REALTIME | ETIME_SUCCESS;
                priority == 0
                    && (len, offset, address) == (1, 0, 0)
                    && operation_flags & !known == 0
            }
            _ => false,
        };
        let time = seconds.zip(nanos);
        let is_time = |(seconds, nanos): (u64, u32)| {
            i64::try_from(seconds).is_ok() && u64::from(nanos) < NANOS
        };
        let is_timeout = operation == OP_TIMEOUT;
        let fits = known
            && file.is_none() == is_timeout
            && time.is_some() == is_timeout
            && time.is_none_or(is_time);
        let task = i32::try_from(task).ok().and_then(NsPid::from_raw)?;
        let made = Self {
            task,
            file: None,
            operation,
            flags,
            priority,
            offset,
            address,
            len,
            operation_flags,
            data,
            time,
            told: told.unwrap_or_default(),
        };
        let fits = fits && (made.told == 0 || made.tells_when_made());
        fits.then(|| Self { file: file.map(refer), ..made })
    }

    /// As the kernel reads it; with the number of a descriptor of the file, and where the time is.
    pub(super) fn to_bytes(&self, fd: u32, time: u64) -> [u8; 64] {
        let Self { operation, flags, priority, offset, address, len, .. } = *self;
        let Self { operation_flags, data, .. } = *self;
        let address = if self.time.is_some() { time } else { address };
        let mut bytes = [0; 64];
        (bytes[0], bytes[1]) = (operation, flags);
        bytes[2..4].copy_from_slice(&priority.to_ne_bytes());
        bytes[4..8].copy_from_slice(&fd.to_ne_bytes());
        bytes[8..16].copy_from_slice(&offset.to_ne_bytes());
        bytes[16..24].copy_from_slice(&address.to_ne_bytes());
        bytes[24..28].copy_from_slice(&len.to_ne_bytes());
        bytes[28..32].copy_from_slice(&operation_flags.to_ne_bytes());
        bytes[32..40].copy_from_slice(&data.to_ne_bytes());
        bytes
    }
}
