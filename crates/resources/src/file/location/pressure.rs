//! Files that tell of pressure on the system, or on a control group (PSI).
//!
//! What has been written to one, which is when it is to tell, can only be read from the kernel's
//! `struct psi_trigger` (`kernel/sched/psi.c`); that something has been, in another write, which
//! fails in any case.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use epoll_interest::kernel_memory::{Address, KernelMemory, OpenError, OpenFiles, ReadError};
use rustix::fs::{FileType, OFlags};
use rustix::io::{Errno, write};
use tracing::debug;

use crate::file::{FsMagic, Probe};
use crate::{Error, Result};

/// When to tell. Times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trigger {
    /// When all tasks stall, not just some.
    full: bool,
    /// That they do for so long ...
    stall: u32,
    /// ... within this time.
    window: u32,
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { full, stall, window } = self;
        write!(f, "{} {stall} {window}", if *full { "full" } else { "some" })
    }
}

/// Why it could not be read.
#[derive(Debug, thiserror::Error)]
enum PeekError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

fn is_about_pressure(probe: &Probe) -> bool {
    let link = &probe.link;
    probe.has_description()
        && !probe.is_path_only()
        && probe.file_type() == FileType::RegularFile
        && probe.flags() & OFlags::ACCMODE != OFlags::RDONLY
        && match probe.file_system {
            FsMagic::PROC => link.parent().is_some_and(|parent| parent.ends_with("pressure")),
            FsMagic::CGROUP | FsMagic::CGROUP2 => {
                link.extension().is_some_and(|end| end == "pressure")
            }
            _ => false,
        }
}

impl Trigger {
    /// What the file watches, if it does.
    pub(super) fn collect(probe: &Probe) -> Result<Option<Self>> {
        // Only one can be set, which is found out before what is written is looked at.
        if !is_about_pressure(probe) || write(probe.duplicate()?, b"?") != Err(Errno::BUSY) {
            return Ok(None);
        }
        let refused = |reason, hint| Error::Unsupported {
            object: "a file that tells of pressure",
            detail: probe.link.clone().into(),
            reason,
            hint,
        };
        let file = probe.duplicate()?;
        match Self::peek(file.as_fd(), probe.file_system != FsMagic::PROC) {
            Ok((trigger, false)) => Ok(Some(trigger)),
            Ok((_, true)) => Err(refused(
                "it has something to tell, which the program has not seen yet",
                "try again a moment later",
            )),
            Err(error) => {
                debug!(%error, "the kernel's structures cannot be read");
                Err(refused(
                    "no call tells what it watches, and the kernel's structures cannot be read here",
                    "run dormouse with CAP_BPF and CAP_PERFMON, on a kernel with type information",
                ))
            }
        }
    }

    /// What it watches, and whether it has something to tell.
    fn peek(file: BorrowedFd<'_>, of_group: bool) -> Result<(Self, bool), PeekError> {
        let (mut memory, (files, private, group, trigger)) = KernelMemory::open(|btf| {
            let (psi, of_psi) = btf.structure("cgroup_file_ctx")?.member("psi")?;
            let private = btf.structure("seq_file")?.offset("private")?;
            let open = btf.structure("kernfs_open_file")?.offset("priv")?;
            let trigger = btf.structure("psi_trigger")?;
            let (window, of_window) = trigger.member("win")?;
            let layout = [
                trigger.offset("state")?,
                trigger.offset("threshold")?,
                window + of_window.offset("size")?,
                trigger.offset("event")?,
            ];
            let group = (open, psi + of_psi.offset("trigger")?);
            Ok((OpenFiles::new(btf)?, private, group, layout))
        })?;
        let at = |address: Address, offset: usize| address + offset as u64;
        let sequence = files.private_data(&mut memory, &[file])?[0];
        let mut object = memory.word(at(sequence, private))?;
        if of_group {
            let context = memory.word(at(object, group.0))?;
            object = memory.word(at(context, group.1))?;
        }
        let words = memory.words(&trigger.map(|offset| at(object, offset)))?;
        let (state, event) = (words[0] as u32, words[3] as u32);
        // Nanoseconds; all of it was written in 32 bits of microseconds.
        let micros = |nanos: u64| u32::try_from(nanos / 1000).map_err(|_| ReadError::Fault);
        // Of interrupts there is only one, the full one, which is the last but one.
        const FULL_OF_INTERRUPTS: u32 = 6;
        let full = state % 2 == 1 || state == FULL_OF_INTERRUPTS;
        Ok((Self { full, stall: micros(words[1])?, window: micros(words[2])? }, event != 0))
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let [kind, stall, window] = words[..] else { return None };
        let full = match kind {
            "some" => false,
            "full" => true,
            _ => return None,
        };
        Some(Self { full, stall: stall.parse().ok()?, window: window.parse().ok()? })
    }

    pub(super) fn set(self, file: BorrowedFd<'_>, path: &Path) -> Result<()> {
        // The kernel takes the last byte for the end of a string.
        write(file, format!("{self}\0").as_bytes()).map_err(Error::kernel("write", path)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let trigger = Trigger { full: true, stall: 150_000, window: 2_000_000 };
        assert_eq!(Trigger::parse(&trigger.to_string()), Some(trigger));
        for bad in ["", "some 1", "most 1 2", "full 1 2 3", "full -1 2", "some 1 5000000000"] {
            assert_eq!(Trigger::parse(bad), None, "{bad}");
        }
    }
}
