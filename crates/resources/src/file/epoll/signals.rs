//! Items on signalfds. They hang on the signals of whoever adds them
//! (`signalfd_poll`, `fs/signalfd.c`), so a task of that process has to; if it
//! has ended, another that ends.

use dormouse_kernel::NsPid;
use dormouse_kernel::signal::Signal;
use epoll_interest::{EndedInsertion, Events, FdNumber, Insertion, Item, insert_by_ended, modify};

use crate::Result;
use crate::file::{CreatedFiles, FileRef};

/// Who has added an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Adder {
    /// A process of the tree.
    Process(NsPid),
    /// One that has ended: the item waits for nobody's signals.
    Ended,
}

impl Adder {
    pub(super) fn encode(self) -> u32 {
        match self {
            Self::Process(pid) => pid.as_raw().unsigned_abs(),
            Self::Ended => 0,
        }
    }

    fn decode(raw: u32) -> Option<Self> {
        match raw {
            0 => Some(Self::Ended),
            pid => NsPid::from_raw(i32::try_from(pid).ok()?).map(Self::Process),
        }
    }
}

/// An item on a signalfd.
#[derive(Clone, Debug)]
pub struct SignalItem {
    /// Who adds it.
    pub adder: Adder,
    /// The epoll.
    pub epoll: FileRef,
    /// The signalfd.
    pub target: FileRef,
    /// The number of the key.
    pub number: u32,
    events: Events,
    data: u64,
    /// A signal that is to wait for the process meanwhile, and to be reported:
    /// the item is a one-shot then that has fired.
    pub fired_by: Option<Signal>,
    /// What it is to wait for once those signals wait that are to, none of
    /// which it is to report: until then it is deaf.
    later: Option<Later>,
}

#[derive(Clone, Copy, Debug)]
struct Later {
    events: Events,
    /// It was woken before by signals that nobody can send again.
    is_woken: bool,
}

impl SignalItem {
    /// Whether something is left to be done for it when all signals wait.
    #[must_use]
    pub fn is_deaf(&self) -> bool {
        self.later.is_some()
    }

    /// `struct epoll_event`.
    #[must_use]
    pub fn event(&self) -> Vec<u8> {
        // Packed on x86-64 (`EPOLL_PACKED`).
        [&self.events.bits().to_ne_bytes()[..], &self.data.to_ne_bytes()].concat()
    }

    fn insertion<'a>(&self, created: &'a CreatedFiles<'_>, events: Events) -> Insertion<'a> {
        let (file, fd) = (created.get(self.target), FdNumber::from_raw(self.number));
        Insertion { file, fd, events, data: self.data }
    }

    /// Adds those of processes that have ended.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn add_ended(items: &[Self], created: &CreatedFiles<'_>) -> Result<()> {
        let ended = items.iter().filter(|item| item.adder == Adder::Ended);
        let insertion = |item: &Self| EndedInsertion {
            epoll: created.get(item.epoll),
            item: item.insertion(created, item.events),
            fired_by: item.fired_by.map(Signal::as_raw),
        };
        let insertions: Vec<_> = ended.map(insertion).collect();
        Ok(insert_by_ended(&insertions)?)
    }

    /// Has it hear signals from now on, and report one that has come meanwhile
    /// if `has_missed`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn listen(&self, created: &CreatedFiles<'_>, has_missed: bool) -> Result<()> {
        let Some(Later { events, is_woken }) = self.later else { return Ok(()) };
        let item = self.insertion(created, events);
        // To this process the file reports nothing, unless a signal waits for it.
        let signal = self.fired_by.filter(|_| has_missed || is_woken).map(Signal::as_raw);
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
    pub(in crate::file) adder: Option<Adder>,
    pub(super) pending: bool,
}

impl Saved {
    /// `adder` is from the image. Nothing if no process has that number.
    pub(super) fn decode((item, pending): (Item<FileRef>, bool), adder: u32) -> Option<Self> {
        Some(Self { item, adder: Some(Adder::decode(adder)?), pending })
    }

    pub(in crate::file) const fn target(&self) -> FileRef {
        self.item.file
    }

    /// How it is added by `adder`, which no signal wakes if it `is_over`; `signal`
    /// is one that its file takes. Nothing if it has to fire and there is none, or
    /// if no kernel has such an item.
    pub(in crate::file) fn plan(
        &self,
        epoll: FileRef,
        (adder, is_over): (Adder, bool),
        signal: Option<Signal>,
    ) -> Option<SignalItem> {
        let Item { file: target, fd, events, data, seniority: _ } = self.item;
        if fd >= FdNumber::from_raw(HIGHEST) {
            return None;
        }
        let (fired, all) = (self.item.fired(), events | Events::CONDITIONS);
        let is_woken = self.pending && is_over;
        let is_quiet = (!self.pending || is_over) && !events.contains(Events::EXCLUSIVE);
        let later = Later { events, is_woken };
        let (events, fired_by, later) = match signal {
            _ if self.adder.is_none() => (events, None, None),
            _ if fired => (all, Some(signal?), None),
            Some(_) if is_quiet => (all | Events::ONESHOT, signal, Some(later)),
            // What is woken and has nothing to report is as if it were not.
            _ => (events, None, None),
        };
        let number = fd.as_raw();
        Some(SignalItem { adder, epoll, target, number, events, data, fired_by, later })
    }
}
