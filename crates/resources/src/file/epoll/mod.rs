//! Epolls.
//!
//! Kernel object: `struct eventpoll`: items, each watching an open file
//! description under the number it was added by, and the list of those that
//! are pending. It has one open file description.
//! Truth from: the kernel's own structures, by `epoll_interest`; which file an
//! item watches by its key there.
//! Image: `eventpoll_file_entry` in `files.img`. CRIU looks a target up by its
//! number in the fd table of a process that has the epoll, and adds it as new.
//! So the target, the number in its key where that is another, what wait queue it shares
//! with other targets, and the state have fields of our own. An item that has no number there gets one that CRIU
//! will refuse.
//! Create: `epoll_create1(2)`.
//! Fill: items on signalfds by tasks of the process whose signals they watch,
//! into tables that are still empty, or, if that has ended, by one that ends. The others of all epolls at once, in two steps: what takes files that are new, and
//! the rest when every file is filled. Items of images without state are added
//! as CRIU does it.
//! Refused: an item on a file that nobody in the tree has, naming who has it;
//! a fired one-shot on a pidfd of a task that lives; an item on a signalfd that was added by a
//! process which is not in the tree.
//! Not preserved: see `epoll_interest::Rebuild`; the place of items on
//! signalfds among those that are pending, in an epoll that watches another, or has an exclusive edge or an exclusive item
//! on a signalfd, or if their process has ended; and that an exclusive edge on one was
//! reported whose signals still wait (it is reported again).
//! Kernel needed: BTF and BPF (`CAP_BPF`, `CAP_PERFMON`) for the dump, unless there
//! is little to tell: see `compare`.
//! Scenarios: `epoll`; `crates/resources/tests`.

mod collect;
mod compare;
mod outside;
mod problem;
mod rebuild;
mod signals;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use dormouse_image::ImageName;
use dormouse_image::proto::files::eventpoll::{
    BusyPollEntry, EventpollFileEntry, EventpollStateEntry, EventpollTfdEntry,
};
use dormouse_image::proto::files::{FdType, FileEntry};
use epoll_interest::{
    BusyPoll, Events, FdNumber, Insertion, Interest, Item, LeftArmed, Wanted, insert,
};
use rustix::event::epoll;
use rustix::fs::OFlags;

use super::{
    CollectCx, CreateCx, Created, FileId, FileKind, FileRef, FillCx, FillRank, ImageSink,
    ImageSource, Inode, Probe, Stage, Status, Use,
};
use crate::corrupt::corrupt;
use crate::{Error, Result};
use collect::Collected;
pub use problem::{Hidden, ItemProblem, Outsider};
use rebuild::{Set, Source};
use signals::Saved;
pub use signals::{Adder, SignalItem};

/// An epoll.
#[derive(Debug)]
pub struct Epoll {
    status: Status,
    busy_poll: Option<BusyPoll>,
    watches: Watches,
    /// At the restore: items that tasks of the tree have to add.
    signals: Vec<Saved>,
}

impl Epoll {
    /// The set that it is one of.
    fn set(&self) -> Option<&Set> {
        match &self.watches {
            Watches::Exact(set) => Some(set),
            _ => None,
        }
    }

    /// Its items on signalfds: those the image names, or, if it names none as
    /// CRIU's do, those that `is_signalfd`.
    pub(super) fn signals(&self, is_signalfd: impl Fn(FileRef) -> bool) -> Vec<Saved> {
        match &self.watches {
            Watches::Added(items) => items
                .iter()
                .filter(|item| is_signalfd(item.file))
                .map(|item| Saved { item: item.clone(), adder: None, place: None })
                .collect(),
            _ => self.signals.clone(),
        }
    }
}

/// What it watches.
#[derive(Debug)]
enum Watches {
    /// At the dump.
    Collected(Collected),
    /// At the restore, one of a set.
    Exact(Rc<Set>),
    /// At the restore from an image that says nothing of their state.
    Added(Vec<Item<FileRef>>),
}

impl FileKind for Epoll {
    const NAME: &'static str = "epoll";
    const TYPE: FdType = FdType::EventPoll;
    const RANKS: &'static [FillRank] = &[FillRank::Fresh, FillRank::Watches];

    fn claims(probe: &Probe) -> bool {
        probe.anonymous_inode() == Some("eventpoll")
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let status = Status::collect(cx, probe)?;
        let epoll = probe.duplicate()?;
        let watches = collect::watches(cx, probe, &epoll)?;
        let busy_poll = BusyPoll::get(epoll.as_fd())
            .map_err(Error::kernel_io("EPIOCGPARAMS", &probe.link))?
            .filter(|busy_poll| *busy_poll != BusyPoll::default());
        Ok(Self { status, busy_poll, watches, signals: Vec::new() })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { status, busy_poll, watches, signals: _ } = self;
        let Watches::Collected(Collected { items, pending }) = watches else {
            unreachable!("an epoll that is written was collected")
        };
        let (flags, fown) = status.encode();
        let busy_poll = busy_poll.map(|BusyPoll { usecs, budget, prefer }| BusyPollEntry {
            usecs,
            budget: budget.into(),
            prefer,
        });
        let epfd = EventpollFileEntry {
            id: id.as_raw(),
            flags,
            fown,
            tfd: items.clone(),
            state: Some(EventpollStateEntry { pending: (0..*pending).collect(), busy_poll }),
        };
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            epfd: Some(Box::new(epfd)),
            ..FileEntry::default()
        };
        images.put(id, entry);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, images: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(epfd) = entry.epfd.as_deref() else {
            return Err(wrong("it has no eventpoll_file_entry"));
        };
        let EventpollFileEntry { id: own_id, flags, fown, tfd, state } = epfd;
        if *own_id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        let status = Status::decode(Self::NAME, id, *flags, fown)?;
        let place = (ImageName::Files, Self::NAME, u64::from(id.as_raw()));
        let mut items = Vec::with_capacity(tfd.len());
        let mut adders = BTreeMap::new();
        let by_number = tfd.iter().any(|item| item.target.is_none());
        let beside = by_number.then(|| images.numbers_beside(id)).flatten().unwrap_or_default();
        for entry in tfd.iter() {
            let EventpollTfdEntry { id: _, tfd, events, data, target, number, .. } = entry;
            let EventpollTfdEntry { seniority, queue, adder, .. } = entry;
            adders.extend(adder.map(|adder| (items.len(), adder)));
            let target = match target {
                Some(target) => target,
                None => beside
                    .get(&tfd)
                    .ok_or_else(|| wrong("an item's number is in no fd table beside it"))?
                    .as_raw(),
            };
            items.push(Item {
                file: images.file_ref(target, Use::Description, place),
                fd: FdNumber::from_raw(number.unwrap_or(tfd)),
                events: Events::from_bits_retain(events),
                data,
                seniority: seniority.unwrap_or(0),
                queue: queue.and_then(NonZeroU32::new),
            });
        }
        let Some(EventpollStateEntry { pending, busy_poll }) = state else {
            let (busy_poll, watches, signals) = (None, Watches::Added(items), Vec::new());
            return Ok(Self { status, busy_poll, watches, signals });
        };
        let busy_poll = match *busy_poll {
            None => None,
            Some(BusyPollEntry { usecs, budget, prefer }) => {
                let budget = u16::try_from(budget).map_err(|_| wrong("its budget is none"))?;
                Some(BusyPoll { usecs, budget, prefer })
            }
        };
        let pending = pending.iter().map(|&index| index as usize).collect();
        let epoll = FileRef(id);
        let set = Rc::clone(&images.part::<Source>()?.0);
        let mut interest = Interest { items, pending };
        if interest.pending.iter().any(|&index| index >= interest.items.len()) {
            return Err(wrong("its pending items are not items of it, each once"));
        }
        let mut place = 0..;
        let taken = match adders.is_empty() {
            true => Vec::new(),
            false => interest.take_out(|_| adders.contains_key(&place.next().unwrap_or(0))),
        };
        let adders = adders.into_values();
        let signals = taken.into_iter().zip(adders).map(|(item, adder)| {
            Saved::decode(item, adder)
                .ok_or_else(|| wrong("an item on a signalfd has a process that cannot be"))
        });
        let signals = signals.collect::<Result<_>>()?;
        set.wanted.borrow_mut().push(Wanted { epoll, interest });
        Ok(Self { status, busy_poll, watches: Watches::Exact(set), signals })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        Stage::Early
    }

    fn create(&self, _: FileId, _: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let file = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(Error::kernel("epoll_create1", Self::NAME))?;
        self.status.apply_over(OFlags::empty(), Self::NAME, file.as_fd())?;
        if let Some(busy_poll) = self.busy_poll {
            busy_poll.set(file.as_fd()).map_err(Error::kernel_io("EPIOCSPARAMS", Self::NAME))?;
        }
        Ok(file)
    }

    fn inode(&self) -> Option<&dyn Inode> {
        None
    }

    fn fill(rank: FillRank, files: &[Created<'_, Self>], cx: &FillCx<'_>) -> Result<()> {
        let fd = |file: &FileRef| -> Option<BorrowedFd<'_>> { Some(cx.file(*file)) };
        // All of them are in the same one.
        let set = files.iter().find_map(|file| match &file.kind.watches {
            Watches::Exact(set) => Some(set),
            _ => None,
        });
        if rank == FillRank::Fresh {
            if let Some(set) = set {
                set.rebuild().prepare(fd)?;
            }
            return Ok(());
        }
        if let Some(set) = set {
            none_armed(&set.rebuild().finish(fd)?)?;
        }
        for Created { kind, file, .. } in files {
            if let Watches::Added(items) = &kind.watches {
                let insertion = |item: &Item<FileRef>| Insertion {
                    file: cx.file(item.file),
                    fd: item.fd,
                    events: item.events,
                    data: item.data,
                };
                let others = items.iter().filter(|item| !cx.is(FdType::SignalFd, item.file));
                insert(*file, &others.map(insertion).collect::<Vec<_>>())?;
            }
        }
        Ok(())
    }
}

/// The dump has refused what cannot be fired, so such images are another's.
fn none_armed(left: &[LeftArmed<FileRef>]) -> Result<()> {
    let Some(left) = left.first() else { return Ok(()) };
    let problem = ItemProblem::Fired(format!("file {}", left.file.id()).into());
    Err(Error::EpollItem { number: left.fd.as_raw(), problem })
}
