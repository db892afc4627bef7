//! Items on signalfds. They hang on the signals of whoever adds them
//! (`signalfd_poll`, `fs/signalfd.c`), so a task of that process has to.

use dormouse_kernel::NsPid;
use dormouse_kernel::signal::Signal;
use epoll_interest::{Events, FdNumber, Insertion, Item, modify};

use crate::Result;
use crate::file::{CreatedFiles, FileRef};

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
    /// the item is a one-shot then that has fired.
    pub fired_by: Option<Signal>,
    /// What it is to wait for once those signals wait that are to, none of
    /// which it is to report: until then it is deaf.
    later: Option<(Events, u64)>,
}

impl SignalItem {
    /// Whether something is left to be done for it when all signals wait.
    #[must_use]
    pub fn is_deaf(&self) -> bool {
        self.later.is_some()
    }

    /// Has it hear signals from now on, and report one that has come meanwhile
    /// if `has_missed`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn listen(&self, created: &CreatedFiles<'_>, has_missed: bool) -> Result<()> {
        let Some((events, data)) = self.later else { return Ok(()) };
        let (file, fd) = (created.get(self.target), FdNumber::from_raw(self.number));
        let item = Insertion { file, fd, events, data };
        // To this process the file reports nothing, unless a signal waits for it.
        let signal = self.fired_by.filter(|_| has_missed).map(Signal::as_raw);
        Ok(modify(created.get(self.epoll), &[item], signal)?)
    }
}

/// No descriptor has a number as high (`sysctl_nr_open_max`, `fs/file.c`).
const HIGHEST: u32 = 1 << 30;

/// An item as the image has it.
#[derive(Clone, Debug)]
pub(in crate::file) struct Saved {
    pub(super) item: Item<FileRef>,
    /// Known if the image tells.
    pub(in crate::file) adder: Option<NsPid>,
    pub(super) pending: bool,
}

impl Saved {
    /// `adder` is from the image. Nothing if no process has that number.
    pub(super) fn decode((item, pending): (Item<FileRef>, bool), adder: u32) -> Option<Self> {
        let adder = NsPid::from_raw(i32::try_from(adder).ok()?)?;
        Some(Self { item, adder: Some(adder), pending })
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
        let (fired, all) = (self.item.fired(), events | Events::CONDITIONS);
        let is_quiet = !self.pending && !events.contains(Events::EXCLUSIVE);
        let (events, fired_by, later) = match signal {
            _ if self.adder.is_none() => (events, None, None),
            _ if fired => (all, Some(signal?), None),
            Some(_) if is_quiet => (all | Events::ONESHOT, signal, Some((events, data))),
            // What is woken and has nothing to report is as if it were not.
            _ => (events, None, None),
        };
        // `struct epoll_event` is packed on x86-64 (`EPOLL_PACKED`).
        let event = [&events.bits().to_ne_bytes()[..], &data.to_ne_bytes()].concat();
        let adder = self.adder.unwrap_or(adder);
        Some(SignalItem { adder, epoll, target, number: fd.as_raw(), event, fired_by, later })
    }
}
