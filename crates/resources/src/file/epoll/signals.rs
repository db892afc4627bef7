//! Items on signalfds. They hang on the signals of whoever adds them
//! (`signalfd_poll`, `fs/signalfd.c`), so a task of that process has to; if it
//! has ended, another that ends.

use std::collections::{BTreeSet, HashMap};

use dormouse_kernel::NsPid;
use dormouse_kernel::signal::Signal;
use epoll_interest::{
    EndedInsertion, Events, FdNumber, Insertion, Item, LateItem, insert_by_ended, modify,
};

use crate::Result;
use crate::file::{CreatedFiles, File, FileRef};

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
    /// How many items on the signals of one process are to be added before it.
    pub(in crate::file) seniority: u32,
    /// What it is to wait for once those signals wait that are to: until then
    /// it is deaf.
    later: Option<Later>,
}

#[derive(Clone, Copy, Debug)]
struct Later {
    events: Events,
    /// If it is pending then, its place.
    place: Option<usize>,
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

    /// Whether it is not there before it is to [`listen`](Self::listen): the end
    /// of its process makes it pending, and whoever looks would take that from it.
    fn is_last(&self) -> bool {
        self.later.is_some() && self.fired_by.is_none()
    }

    fn by_ended<'a>(&self, created: &'a CreatedFiles<'_>) -> EndedInsertion<'a> {
        EndedInsertion {
            epoll: created.get(self.epoll),
            item: self.insertion(created, self.events),
            fired_by: self.fired_by.map(Signal::as_raw),
        }
    }

    /// Adds those of processes that have ended.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn add_ended(items: &[Self], created: &CreatedFiles<'_>) -> Result<()> {
        let ended = items.iter().filter(|item| item.adder == Adder::Ended && !item.is_last());
        let insertions: Vec<_> = ended.map(|item| item.by_ended(created)).collect();
        Ok(insert_by_ended(&insertions)?)
    }

    /// Has all that are deaf hear signals from now on. What is pending in their epolls is so in
    /// its order then.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn listen_all(items: &[Self], created: &CreatedFiles<'_>) -> Result<()> {
        // In an epoll with such an item the others keep away from the list: whoever looks there takes
        // out what waits for another's signals.
        let apart = items.iter().filter(|item| item.fired_by.is_none());
        let apart: BTreeSet<FileRef> = apart.map(|item| item.epoll).collect();
        let (mut late, mut set) = (HashMap::<_, Vec<_>>::new(), None);
        let mut alone = Vec::new();
        for item in items.iter().filter(|item| item.is_deaf()) {
            let of_epoll = match created.files.get(item.epoll) {
                File::Epoll(epoll) if !apart.contains(&item.epoll) => epoll.set(),
                _ => None,
            };
            match item.late(created) {
                Some(pending) if of_epoll.is_some() => {
                    late.entry(item.epoll).or_default().push(pending);
                    set = of_epoll;
                }
                _ => alone.push(item),
            }
        }
        // All are in the same one.
        if let Some(set) = set {
            set.rebuild().join(&late, |file| Some(created.get(*file)))?;
        }
        alone.sort_by_key(|item| {
            let place = item.later.and_then(|later| later.place);
            (place.is_none(), place)
        });
        alone.into_iter().try_for_each(|item| item.listen(created, false))
    }

    /// If it is deaf, and to be pending.
    fn late<'a>(&self, created: &'a CreatedFiles<'_>) -> Option<LateItem<'a>> {
        let Later { events, place } = self.later?;
        let item = self.insertion(created, events);
        Some(LateItem { item, place: place?, signal: self.fired_by.map(Signal::as_raw) })
    }

    /// Has it hear signals from now on, and report one that has come meanwhile
    /// if `has_missed`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn listen(&self, created: &CreatedFiles<'_>, has_missed: bool) -> Result<()> {
        let Some(Later { events, place }) = self.later else { return Ok(()) };
        if self.is_last() {
            return Ok(insert_by_ended(&[self.by_ended(created)])?);
        }
        let item = self.insertion(created, events);
        // To this process the file reports nothing, unless a signal waits for it.
        let signal = self.fired_by.filter(|_| has_missed || place.is_some()).map(Signal::as_raw);
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
    /// If it is pending, its place.
    pub(super) place: Option<usize>,
}

impl Saved {
    /// `adder` is from the image. Nothing if no process has that number.
    pub(super) fn decode(
        (item, place): (Item<FileRef>, Option<usize>),
        adder: u32,
    ) -> Option<Self> {
        Some(Self { item, adder: Some(Adder::decode(adder)?), place })
    }

    pub(in crate::file) const fn target(&self) -> FileRef {
        self.item.file
    }

    /// How it is added by `adder`; `signal` is one that its file takes. Nothing if no kernel has such an
    /// item.
    ///
    /// All are deaf until signals wait, so that each can be added in its turn,
    /// whatever the others are woken by; but for those that cannot be changed,
    /// which are told apart from the others anyway, and come after them.
    pub(in crate::file) fn plan(
        &self,
        epoll: FileRef,
        adder: Adder,
        signal: Signal,
    ) -> Option<SignalItem> {
        let Item { file: target, fd, events, data, seniority, queue: _ } = self.item;
        if fd >= FdNumber::from_raw(HIGHEST) {
            return None;
        }
        let (fired, all) = (self.item.fired(), events | Events::CONDITIONS);
        let is_fixed = events.contains(Events::EXCLUSIVE);
        let later = Later { events, place: self.place };
        let (events, fired_by, later) = if self.adder.is_none() {
            (events, None, None)
        } else if fired {
            (all, Some(signal), None)
        } else if !is_fixed {
            (all | Events::ONESHOT, Some(signal), Some(later))
        } else if adder == Adder::Ended {
            (events, None, Some(later))
        } else {
            // What is woken and has nothing to report is as if it were not.
            (events, None, None)
        };
        let number = fd.as_raw();
        Some(SignalItem { adder, epoll, target, number, events, data, fired_by, seniority, later })
    }
}
