//! What every open file description has: status flags, and whom it signals.
//!
//! Kernel object: `f_flags` and `f_owner` of `struct file`.
//! Truth from: `/proc/PID/fdinfo`; `F_GETOWN_EX`, `F_GETOWNER_UIDS` and
//! `F_GETSIG` on a duplicate (`fcntl(2)`, `fs/fcntl.c`).
//! Image: `flags` of every entry, and `fown_entry`.
//! Create: flags that `open(2)` takes come with the open, the others by
//! `F_SETFL`. Owner, signal and `O_ASYNC` are set last of all, so that filling the
//! file signals nobody.
//! Not preserved: an owner that has died (the kernel shows none); the number by
//! which signals speak of a file (`si_fd`) is the lowest it has in the first fd
//! table, also if it had another when `O_ASYNC` was set.
//! Scenarios: `files::async_signals`.

use std::os::fd::{AsFd, BorrowedFd};

use dormouse_image::ImageName;
use dormouse_image::proto::files::FownEntry;
use dormouse_kernel::file_owner::{self, Owner, OwnerKind};
use dormouse_kernel::signal::Signal;
use dormouse_kernel::{FdNum, HostPid, NsPid};
use rustix::fs::{OFlags, Uid, fcntl_getfl, fcntl_setfl};
use rustix::process::{dumpable_behavior, getuid, set_dumpable_behavior};
use rustix::thread::set_thread_res_uid;

use super::{CollectCx, FileId, Probe};
use crate::corrupt::corrupt;
use crate::{Error, Result};

/// Flags that the kernel keeps with an open file description. (`O_CREAT` and
/// its like only say how to open; `O_CLOEXEC` belongs to the descriptor.)
const KEPT: OFlags = OFlags::ACCMODE
    .union(SETTABLE)
    .union(OFlags::SYNC)
    .union(OFlags::LARGEFILE)
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::TMPFILE)
    .union(OFlags::PATH);

/// Flags that `F_SETFL` changes.
const SETTABLE: OFlags = OFlags::APPEND
    .union(OFlags::NONBLOCK)
    .union(OFlags::ASYNC)
    .union(OFlags::DIRECT)
    .union(OFlags::NOATIME);

/// Status flags, owner and signal of an open file description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    flags: OFlags,
    signal: Option<Signal>,
    recipient: Option<Recipient>,
}

/// Who gets `SIGIO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Recipient {
    kind: OwnerKind,
    pid: NsPid,
    /// Of whoever chose the recipient.
    uid: u32,
    euid: u32,
}

/// Whether a file with these flags was opened with access mode 3: whoever may read and write it can do
/// neither then, and only `ioctl(2)` and the like are left (`open(2)`).
fn is_for_neither(flags: OFlags) -> bool {
    flags & OFlags::ACCMODE == OFlags::ACCMODE && !flags.contains(OFlags::PATH)
}

impl Status {
    /// A description that nobody has asked anything special of.
    #[must_use]
    pub(crate) const fn plain(flags: OFlags) -> Self {
        Self { flags, signal: None, recipient: None }
    }

    /// Reads it.
    pub(crate) fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        Self::collect_without(cx, probe, OFlags::empty())
    }

    /// The same for a kind that has a meaning of its own for some flags.
    pub(crate) fn collect_without(cx: &CollectCx<'_>, probe: &Probe, own: OFlags) -> Result<Self> {
        if is_for_neither(probe.flags()) {
            return Err(Error::Unsupported {
                object: "an open file",
                detail: probe.link.clone().into(),
                reason: "it was opened neither for reading nor for writing (access mode 3)",
                hint: "have the program open it by O_PATH in its place, or close it first",
            });
        }
        Self::collect_with_any_access(cx, probe, own)
    }

    /// The same for a kind that can be open neither for reading nor for writing.
    pub(crate) fn collect_with_any_access(
        cx: &CollectCx<'_>,
        probe: &Probe,
        own: OFlags,
    ) -> Result<Self> {
        let flags = probe.flags() - own;
        if !KEPT.contains(flags) {
            return Err(Error::Unsupported {
                object: "an open file",
                detail: probe.link.clone().into(),
                reason: "it has status flags that are unknown here",
                hint: "a newer version of dormouse may know them",
            });
        }
        if probe.is_path_only() || !probe.has_description() || probe.has_no_owner {
            return Ok(Self::plain(flags));
        }
        let file = probe.duplicate()?;
        let asked = |call| Error::kernel(call, &probe.link);
        let signal = file_owner::signal(&file).map_err(asked("F_GETSIG"))?;
        let recipient = match file_owner::owner(&file).map_err(asked("F_GETOWN_EX"))? {
            None => None,
            Some(Owner { kind, pid }) => {
                let pid = cx.ns_pid(pid).ok_or_else(|| Error::Unsupported {
                    object: "an open file with a signal",
                    detail: probe.link.clone().into(),
                    reason: "it sends the signal to a process that is not part of the checkpoint",
                    hint: "checkpoint the tree that the other process belongs to as well",
                })?;
                let uids = file_owner::owner_uids(&file).map_err(asked("F_GETOWNER_UIDS"))?;
                let (uid, euid) = (uids.0.as_raw(), uids.1.as_raw());
                Some(Recipient { kind, pid, uid, euid })
            }
        };
        Ok(Self { flags, signal, recipient })
    }

    /// As images have it.
    pub(crate) fn encode(&self) -> (u32, FownEntry) {
        let Self { flags, signal, recipient } = self;
        let signum = signal.map_or(0, |signal| signal.as_raw().cast_unsigned());
        let fown = match *recipient {
            None => FownEntry { signum, ..FownEntry::default() },
            Some(Recipient { kind, pid, uid, euid }) => FownEntry {
                uid,
                euid,
                signum,
                pid_type: kind.as_raw(),
                pid: pid.as_raw().cast_unsigned(),
            },
        };
        (flags.bits(), fown)
    }

    /// Judges what an image has.
    pub(crate) fn decode(
        object: &'static str,
        id: FileId,
        flags: u32,
        fown: &FownEntry,
    ) -> Result<Self> {
        if is_for_neither(OFlags::from_bits_retain(flags)) {
            return Err(corrupt(ImageName::Files, object, id.as_raw(), "its access mode is none"));
        }
        Self::decode_with_any_access(object, id, flags, fown)
    }

    /// The same for a kind that can be open neither for reading nor for writing.
    pub(crate) fn decode_with_any_access(
        object: &'static str,
        id: FileId,
        flags: u32,
        fown: &FownEntry,
    ) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, object, id.as_raw(), reason);
        let flags = OFlags::from_bits_retain(flags);
        if !KEPT.contains(flags) {
            return Err(wrong("its flags are no status flags"));
        }
        let FownEntry { uid, euid, signum, pid_type, pid } = *fown;
        let signal = match i32::try_from(signum) {
            Ok(0) => None,
            signum => Some(
                signum
                    .ok()
                    .and_then(Signal::from_raw)
                    .ok_or_else(|| wrong("its signal is none"))?,
            ),
        };
        let recipient = match pid {
            0 => None,
            pid => Some(Recipient {
                kind: OwnerKind::from_raw(pid_type)
                    .ok_or_else(|| wrong("its owner is of no known kind"))?,
                pid: i32::try_from(pid)
                    .ok()
                    .and_then(NsPid::from_raw)
                    .ok_or_else(|| wrong("its owner's pid is none"))?,
                uid,
                euid,
            }),
        };
        Ok(Self { flags, signal, recipient })
    }

    /// The flags, `O_PATH` and access mode included.
    #[must_use]
    pub const fn flags(&self) -> OFlags {
        self.flags
    }

    /// The flags to open the file with. The kernel takes `O_ASYNC` only
    /// afterwards.
    #[must_use]
    pub fn open_flags(&self) -> OFlags {
        self.flags - OFlags::ASYNC
    }

    /// Whether anybody is signalled.
    pub(crate) fn has_recipient(&self) -> bool {
        self.recipient.is_some()
    }

    /// Whether it was opened with `O_PATH`.
    #[must_use]
    pub fn is_path_only(&self) -> bool {
        self.flags.contains(OFlags::PATH)
    }

    /// Whether it can be read from.
    #[must_use]
    pub fn reads(&self) -> bool {
        let access = self.flags & OFlags::ACCMODE;
        !self.is_path_only() && [OFlags::RDONLY, OFlags::RDWR].contains(&access)
    }

    /// Whether it can be written to.
    #[must_use]
    pub fn writes(&self) -> bool {
        let access = self.flags & OFlags::ACCMODE;
        !self.is_path_only() && [OFlags::WRONLY, OFlags::RDWR].contains(&access)
    }

    /// Gives `file` the flags that can be changed, but for `O_ASYNC`: whatever
    /// happens to it before it is armed is nobody's business.
    pub(crate) fn apply(&self, object: &'static str, file: BorrowedFd<'_>) -> Result<()> {
        if self.is_path_only() {
            return Ok(());
        }
        let old = fcntl_getfl(file).map_err(Error::kernel("F_GETFL", object))?;
        self.apply_over(old, object, file)
    }

    /// The same for a file that is known to have `old`, as far as flags can be changed.
    pub(crate) fn apply_over(
        &self,
        old: OFlags,
        object: &'static str,
        file: BorrowedFd<'_>,
    ) -> Result<()> {
        if self.is_path_only() {
            return Ok(());
        }
        let new = (old - SETTABLE) | (self.flags & (SETTABLE - OFlags::ASYNC));
        if new != old {
            fcntl_setfl(file, new).map_err(Error::kernel("F_SETFL", object))?;
        }
        Ok(())
    }

    /// Whether it tells by a signal when it becomes ready.
    pub(crate) fn is_async(&self) -> bool {
        self.flags.contains(OFlags::ASYNC) && !self.is_path_only()
    }

    /// Sets whom the file signals, and how. `host_pid` finds the restored
    /// task that a pid of the images stands for; `fd` is the number by which the
    /// signals speak of it.
    pub(crate) fn arm(
        &self,
        object: &'static str,
        (file, fd): (BorrowedFd<'_>, FdNum),
        host_pid: &dyn Fn(NsPid) -> Option<HostPid>,
    ) -> Result<()> {
        if self.signal.is_some() {
            file_owner::set_signal(file, self.signal).map_err(Error::kernel("F_SETSIG", object))?;
        }
        if let Some(Recipient { kind, pid, uid, euid }) = self.recipient {
            let failed = |source| Error::kernel("F_SETOWN_EX", object)(source);
            let pid = host_pid(pid).ok_or_else(|| failed(rustix::io::Errno::SRCH))?;
            as_user((uid, euid), || file_owner::set_owner(file.as_fd(), Owner { kind, pid }))
                .map_err(failed)?;
        }
        if self.is_async() {
            file_owner::announce(file, fd).map_err(Error::kernel("O_ASYNC", object))?;
            if self.recipient.is_none() {
                // A terminal has taken this process for it.
                file_owner::clear_owner(file).map_err(Error::kernel("F_SETOWN_EX", object))?;
            }
        }
        Ok(())
    }
}

/// Runs `act` with other user ids: the kernel notes them with the owner of a
/// file, and charges a message queue to them. Only this thread has them, and only for so long.
pub(super) fn as_user<T>(
    (uid, euid): (u32, u32),
    act: impl FnOnce() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    let mine = (getuid(), rustix::process::geteuid());
    let theirs = (Uid::from_raw(uid), Uid::from_raw(euid));
    if theirs == mine {
        return act();
    }
    // A change of the effective id makes this process undumpable, which would
    // take away its right to much of its own /proc.
    let dumpable = dumpable_behavior()?;
    set_thread_res_uid(Some(theirs.0), Some(theirs.1), None)?;
    let done = act();
    // The saved id stayed, so this is allowed.
    set_thread_res_uid(Some(mine.0), Some(mine.1), None)?;
    set_dumpable_behavior(dumpable)?;
    done
}
