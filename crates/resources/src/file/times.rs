//! When an inode was read and changed last, as images have it.

use std::os::fd::BorrowedFd;

use dormouse_image::proto::files::reg::Timeval;
use rustix::fs::{AtFlags, CWD, Stat, Timespec, Timestamps, utimensat};

use super::watched::own_path;
use crate::{Error, Result};

/// The times of an inode that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    accessed: Time,
    modified: Time,
}

/// Seconds since 1970, which may be before that, and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Time {
    seconds: i64,
    nanoseconds: u32,
}

/// CRIU's seconds and microseconds, and the nanoseconds below those.
pub(super) type Entry = (Option<Timeval>, Option<u32>);

impl Times {
    pub(super) fn of(stat: &Stat) -> Self {
        let time = |seconds, nanoseconds: u64| Time {
            seconds,
            // Below a thousand million.
            nanoseconds: nanoseconds as u32,
        };
        Self {
            accessed: time(stat.st_atime, stat.st_atime_nsec),
            modified: time(stat.st_mtime, stat.st_mtime_nsec),
        }
    }

    /// Of the last access, and of the last change.
    pub(super) fn entries(self) -> (Entry, Entry) {
        let Self { accessed, modified } = self;
        (accessed.entry(), modified.entry())
    }

    /// A time that is not there is 1970.
    pub(super) fn decode(accessed: Entry, modified: Entry) -> Result<Self, &'static str> {
        let decode = |entry| Time::decode(entry).ok_or("its times are none");
        Ok(Self { accessed: decode(accessed)?, modified: decode(modified)? })
    }

    /// Sets those of the inode behind a descriptor, even one opened with `O_PATH`.
    pub(super) fn set(self, file: BorrowedFd<'_>, what: &'static str) -> Result<()> {
        let time = |time: Time| Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
        let (last_access, last_modification) = (time(self.accessed), time(self.modified));
        let times = Timestamps { last_access, last_modification };
        utimensat(CWD, own_path(file), &times, AtFlags::empty())
            .map_err(Error::kernel("utimensat", what))
    }
}

impl Time {
    fn entry(self) -> Entry {
        let Self { seconds, nanoseconds } = self;
        let usec = u64::from(nanoseconds / 1000);
        let timeval = Timeval { tv_sec: seconds.cast_unsigned(), tv_usec: usec };
        (Some(timeval), Some(nanoseconds % 1000).filter(|&rest| rest != 0))
    }

    fn decode((timeval, rest): Entry) -> Option<Self> {
        let Some(Timeval { tv_sec, tv_usec }) = timeval else {
            return Some(Self { seconds: 0, nanoseconds: 0 });
        };
        let usec = u32::try_from(tv_usec).ok().filter(|&usec| usec < 1_000_000)?;
        let rest = Some(rest.unwrap_or(0)).filter(|&rest| rest < 1000)?;
        Some(Self { seconds: tv_sec.cast_signed(), nanoseconds: usec * 1000 + rest })
    }
}
