//! Items on signalfds. They hang on the signals of whoever adds them
//! (`signalfd_poll`, `fs/signalfd.c`), so a task of that process has to.

use dormouse_kernel::NsPid;
use dormouse_kernel::signal::Signal;
use epoll_interest::{Events, FdNumber, Item};

use crate::file::FileRef;

/// An item on a signalfd.
#[derive(Clone, Debug)]
pub struct SignalItem {
    /// The process that adds it.
    pub adder: NsPid,
    /// The epoll.
    pub epoll: FileRef,
    /// The signalfd.
    pub target: FileRef,
    /// The number of the key.
    pub number: u32,
    /// `struct epoll_event`.
    pub event: Vec<u8>,
    /// A signal that is to wait for the process meanwhile, and to be reported:
    /// the item is a one-shot that has fired.
    pub fired_by: Option<Signal>,
}

/// No descriptor has a number as high (`sysctl_nr_open_max`, `fs/file.c`).
const HIGHEST: u32 = 1 << 30;

/// An item as the image has it.
#[derive(Clone, Debug)]
pub(in crate::file) struct Saved {
    pub(super) item: Item<FileRef>,
    /// Known if the image tells.
    pub(in crate::file) adder: Option<NsPid>,
}

impl Saved {
    /// `adder` is from the image. Nothing if no process has that number.
    pub(super) fn decode(item: Item<FileRef>, adder: u32) -> Option<Self> {
        let adder = NsPid::from_raw(i32::try_from(adder).ok()?)?;
        Some(Self { item, adder: Some(adder) })
    }

    pub(in crate::file) const fn target(&self) -> FileRef {
        self.item.file
    }

    /// How it is added by `adder`, in case the image does not tell who; `signal`
    /// is one that its file takes. Nothing if it has to fire and there is none, or
    /// if no kernel has such an item.
    pub(in crate::file) fn plan(
        &self,
        epoll: FileRef,
        adder: NsPid,
        signal: Option<Signal>,
    ) -> Option<SignalItem> {
        let Item { file: target, fd, events, data, seniority: _ } = self.item;
        if fd >= FdNumber::from_raw(HIGHEST) {
            return None;
        }
        let (events, fired_by) = match self.item.fired() && self.adder.is_some() {
            true => (events | Events::CONDITIONS, Some(signal?)),
            false => (events, None),
        };
        // `struct epoll_event` is packed on x86-64 (`EPOLL_PACKED`).
        let event = [&events.bits().to_ne_bytes()[..], &data.to_ne_bytes()].concat();
        let adder = self.adder.unwrap_or(adder);
        Some(SignalItem { adder, epoll, target, number: fd.as_raw(), event, fired_by })
    }
}
