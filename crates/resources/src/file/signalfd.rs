//! Signalfds.
//!
//! Kernel object: `struct signalfd_ctx`: a set of signals. What can be read
//! is whatever of them waits for the task that reads.
//! Truth from: `/proc/PID/fdinfo`.
//! Image: `signalfd_entry` in `files.img`.
//! Create: `signalfd(2)`; one whose set the program has emptied has a signal until items of epolls on it
//! have fired.
//! Fill: nothing; signals that wait belong to their tasks.
//! Not preserved: nothing.
//! Kernel needed: 3.8, which tells the set.
//! Scenarios: `files::signalfd`, `epoll::signals_emptied`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dormouse_image::ImageName;
use dormouse_image::proto::files::signalfd::SignalfdEntry;
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_kernel::proc::Extra;
use dormouse_kernel::signal::{SigSet, Signal};
use dormouse_kernel::signalfd::{set_signals, signalfd};
use rustix::fs::OFlags;

use super::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, ImageSink, ImageSource,
    Inode, Probe, Stage, Status,
};
use crate::corrupt::corrupt;
use crate::{Error, Result};

/// A signalfd.
#[derive(Debug, PartialEq, Eq)]
pub struct Signalfd {
    status: Status,
    signals: SigSet,
}

/// What a file without signals is for while items on it are made to have something to report.
const STAND_IN: Signal = Signal::USR1;

impl Signalfd {
    /// One of the signals it is for, or of those it is made for.
    pub(super) fn any_signal(&self) -> Signal {
        self.own_signal().unwrap_or(STAND_IN)
    }

    /// One of those it is for. It is for none once the program has emptied its mask.
    fn own_signal(&self) -> Option<Signal> {
        self.signals.iter().find(|signal| ![Signal::KILL, Signal::STOP].contains(signal))
    }

    /// Has a new `file` be for no signal any more, if that is so. Items of epolls on it have fired, or
    /// are pending, by then.
    pub(super) fn settle(&self, file: BorrowedFd<'_>) -> Result<()> {
        match self.own_signal() {
            Some(_) => Ok(()),
            None => set_signals(file, self.signals).map_err(Error::kernel("signalfd", Self::NAME)),
        }
    }
}

impl FileKind for Signalfd {
    const NAME: &'static str = "signalfd";
    const TYPE: FdType = FdType::SignalFd;
    const RANKS: &'static [FillRank] = &[];

    fn claims(probe: &Probe) -> bool {
        probe.anonymous_inode() == Some("signalfd")
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let status = Status::collect(cx, probe)?;
        match probe.info.extra {
            Extra::Signalfd(signals) => Ok(Self { status, signals }),
            _ => Err(Error::Unsupported {
                object: "a signalfd",
                detail: probe.link.clone().into(),
                reason: "this kernel does not tell which signals it is for",
                hint: "Linux 3.8 and later do",
            }),
        }
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { status, signals } = self;
        let (flags, fown) = status.encode();
        let sgfd = SignalfdEntry { id: id.as_raw(), flags, fown, sigmask: signals.as_raw() };
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            sgfd: Some(Box::new(sgfd)),
            ..FileEntry::default()
        };
        images.put(id, entry);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, _: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(sgfd) = entry.sgfd.as_deref() else {
            return Err(wrong("it has no signalfd_entry"));
        };
        let SignalfdEntry { id: own_id, flags, fown, sigmask } = sgfd;
        if *own_id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        let status = Status::decode(Self::NAME, id, *flags, fown)?;
        Ok(Self { status, signals: SigSet::from_raw(*sigmask) })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        Stage::Early
    }

    fn create(&self, _: FileId, _: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let Self { status, signals } = self;
        let file = signalfd(signals.with(self.any_signal()))
            .map_err(Error::kernel("signalfd", Self::NAME))?;
        status.apply_over(OFlags::empty(), Self::NAME, file.as_fd())?;
        Ok(file)
    }

    fn inode(&self) -> Option<&dyn Inode> {
        None
    }

    fn fill(_: FillRank, _: &[Created<'_, Self>], _: &FillCx<'_>) -> Result<()> {
        Ok(())
    }
}
