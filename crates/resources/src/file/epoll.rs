//! Epolls.
//!
//! Kernel object: `struct eventpoll`: items, each watching an open file
//! description under the number it was added by, and the list of those that
//! are pending. It has one open file description.
//! Truth from: the kernel's own structures, by `epoll_interest`; which file an
//! item watches by its key there.
//! Image: `eventpoll_file_entry` in `files.img`. CRIU looks a target up by its
//! number in the fd table of a process that has the epoll, and adds it as new.
//! So the target, the number in its key where that is another, and the state
//! have fields of our own. An item that has no number there gets one that CRIU
//! will refuse.
//! Create: `epoll_create1(2)`.
//! Fill: all epolls at once, in two steps: what takes files that are new, and
//! the rest when every file is filled. Items of images without state are added
//! as CRIU does it.
//! Not preserved: see `epoll_interest::Rebuild`.
//! Kernel needed: BTF and BPF (`CAP_BPF`, `CAP_PERFMON`) for the dump.
//! Scenarios: `crates/resources/tests`.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use dormouse_image::proto::files::eventpoll::{
    BusyPollEntry, EventpollFileEntry, EventpollStateEntry, EventpollTfdEntry,
};
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_image::{ImageDir, ImageName};
use epoll_interest::{
    BusyPoll, Events, FdNumber, FileKey, Insertion, Inspection, Inspector, Interest, Item, Rebuild,
    Wanted, insert,
};
use rustix::event::epoll;

use super::source::SourcePart;
use super::{
    CollectCx, CreateCx, Created, FdTable, FileId, FileKind, FileRef, FillCx, FillRank, ImageSink,
    ImageSource, Inode, Probe, Status, Use,
};
use crate::corrupt::corrupt;
use crate::{Error, Result};

/// An epoll.
#[derive(Debug)]
pub struct Epoll {
    status: Status,
    busy_poll: Option<BusyPoll>,
    watches: Watches,
}

/// What it watches.
#[derive(Debug)]
enum Watches {
    /// At the dump.
    Collected {
        items: Vec<Collected>,
        /// Indices of those that are pending, first to be reported first.
        pending: Vec<usize>,
    },
    /// At the restore, one of a set.
    Exact(Rc<Set>),
    /// At the restore from an image that says nothing of their state.
    Added(Vec<Item<FileRef>>),
}

/// An item, and what CRIU's image says of it.
#[derive(Debug)]
struct Collected {
    item: Item<FileId>,
    /// A number of its file in an fd table that has the epoll.
    number: Option<FdNumber>,
    device: u32,
    inode: u64,
    offset: i64,
}

/// How many descriptors are held at a time to learn whose they are.
const BATCH: usize = 256;

/// A number that no descriptor has: it is above every limit
/// (`sysctl_nr_open_max`, `fs/file.c`).
const NO_NUMBER: u32 = i32::MAX as u32;

/// What it takes to read epolls, set up with the first.
#[derive(Default)]
struct Reader {
    inspector: Option<Inspector>,
    files: HashMap<FileKey, FileId>,
}

impl Reader {
    fn read(&mut self, cx: &CollectCx<'_>, epoll: &OwnedFd) -> Result<Inspection> {
        let inspector = match &mut self.inspector {
            Some(inspector) => inspector,
            None => {
                let mut inspector = Inspector::new()?;
                let open: Vec<_> =
                    cx.probes.values().filter(|probe| probe.has_description()).collect();
                for probes in open.chunks(BATCH) {
                    let files: Vec<_> =
                        probes.iter().map(|probe| probe.duplicate()).collect::<Result<_>>()?;
                    let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
                    let keys = inspector.file_keys(&fds)?;
                    self.files.extend(keys.into_iter().zip(probes.iter().map(|probe| probe.id)));
                }
                self.inspector.insert(inspector)
            }
        };
        Ok(inspector.get_events(epoll.as_fd())?)
    }
}

/// By file, its lowest number in the table.
fn numbers(table: Option<&FdTable<FileId>>) -> HashMap<FileId, Vec<u32>> {
    let mut numbers: HashMap<FileId, Vec<u32>> = HashMap::new();
    for descriptor in table.into_iter().flat_map(|table| &table.entries) {
        numbers.entry(descriptor.file).or_default().push(descriptor.fd.as_raw());
    }
    numbers
}

fn collect(cx: &CollectCx<'_>, probe: &Probe, epoll: &OwnedFd) -> Result<Watches> {
    let mut reader = cx.part::<Reader>();
    let Inspection { interest, listed } = reader.read(cx, epoll)?;
    let pending = interest.pending.clone();
    let interest = interest.try_map(|item| {
        reader.files.get(&item.file).copied().ok_or_else(|| Error::Unsupported {
            object: "an epoll",
            detail: probe.link.clone().into(),
            reason: "it watches a file that no process of the tree has open any more",
            hint: "checkpoint the tree together with the process that has it",
        })
    })?;
    let holds = |table: &&FdTable<FileId>| table.entries.iter().any(|own| own.file == probe.id);
    let numbers = numbers(cx.tables.iter().find(holds));
    let found = |(item, entry): (Item<FileId>, epoll_interest::fdinfo::Entry)| {
        let own = item.fd.as_raw();
        let there = numbers.get(&item.file);
        let same = there.and_then(|there| there.iter().find(|&&number| number == own));
        let number = same.or(there.and_then(|there| there.first()));
        Collected {
            number: number.map(|&number| FdNumber::from_raw(number)),
            item,
            device: entry.dev,
            inode: entry.ino,
            offset: entry.pos,
        }
    };
    let mut items: Vec<_> = interest.items.into_iter().zip(listed).map(found).enumerate().collect();
    // The kernel has them in an order that is another each time.
    items.sort_by_key(|(_, Collected { item, .. })| (item.fd, item.file));
    let mut place = vec![0; items.len()];
    for (new, &(old, _)) in items.iter().enumerate() {
        place[old] = new;
    }
    let pending = pending.into_iter().map(|index| place[index]).collect();
    let items = items.into_iter().map(|(_, item)| item).collect();
    Ok(Watches::Collected { items, pending })
}

impl Collected {
    fn entry(&self) -> EventpollTfdEntry {
        let Self { item, number, device, inode, offset } = self;
        let Item { file, fd, events, data, seniority } = item;
        let tfd = number.map_or(NO_NUMBER, FdNumber::as_raw);
        EventpollTfdEntry {
            id: 0,
            tfd,
            events: events.bits(),
            data: *data,
            dev: Some(*device),
            inode: Some(*inode),
            pos: Some(offset.cast_unsigned()),
            target: Some(file.as_raw()),
            number: (fd.as_raw() != tfd).then_some(fd.as_raw()),
            seniority: Some(*seniority).filter(|&seniority| seniority != 0),
        }
    }
}

/// All epolls of a checkpoint, to be filled together.
#[derive(Debug, Default)]
struct Set {
    wanted: RefCell<Vec<Wanted<FileRef>>>,
    /// Once all are known.
    rebuild: OnceCell<Rebuild<FileRef>>,
}

impl Set {
    fn rebuild(&self) -> &Rebuild<FileRef> {
        self.rebuild.get().expect("set when all files were decoded")
    }
}

#[derive(Default)]
struct Source(Rc<Set>);

impl SourcePart for Source {
    fn open(_: &ImageDir) -> Result<Self> {
        Ok(Self::default())
    }

    fn end(self) -> Result<()> {
        let wanted = self.0.wanted.take();
        let epolls: Vec<_> = wanted.iter().map(|wanted| wanted.epoll).collect();
        let rebuild = Rebuild::new(wanted).map_err(|problem| {
            use epoll_interest::WantedError::{Loop, Mask, Pending, SameEpoll, SameKey};
            let (epoll, reason) = match problem {
                SameEpoll { epoll } => (epoll, "it is there twice"),
                SameKey { epoll, .. } => (epoll, "it has two items with one key"),
                Pending { epoll } => (epoll, "its pending items are not items of it, each once"),
                Mask { epoll, .. } => (epoll, "an item has a mask that cannot be"),
                Loop { epoll } => (epoll, "it watches itself"),
            };
            let id = epolls.get(epoll).map_or(0, |epoll| epoll.id().as_raw());
            corrupt(ImageName::Files, Epoll::NAME, id, reason)
        })?;
        // Nobody else sets it.
        let _ = self.0.rebuild.set(rebuild);
        Ok(())
    }
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
        let watches = collect(cx, probe, &epoll)?;
        let busy_poll = BusyPoll::get(epoll.as_fd())
            .map_err(Error::kernel_io("EPIOCGPARAMS", &probe.link))?
            .filter(|busy_poll| *busy_poll != BusyPoll::default());
        Ok(Self { status, busy_poll, watches })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { status, busy_poll, watches } = self;
        let Watches::Collected { items, pending } = watches else {
            unreachable!("an epoll that is written was collected")
        };
        let (flags, fown) = status.encode();
        // Items have indices of 32 bits in the image; the kernel's limit is
        // far below (max_user_watches).
        let pending = pending.iter().map(|&index| index as u32).collect();
        let busy_poll = busy_poll.map(|BusyPoll { usecs, budget, prefer }| BusyPollEntry {
            usecs,
            budget: budget.into(),
            prefer,
        });
        let epfd = EventpollFileEntry {
            id: id.as_raw(),
            flags,
            fown,
            tfd: items.iter().map(Collected::entry).collect(),
            state: Some(EventpollStateEntry { pending, busy_poll }),
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
        for entry in tfd {
            let EventpollTfdEntry { tfd, events, data, target, number, seniority, .. } = *entry;
            let target = match target {
                Some(target) => target,
                None => images
                    .number_beside(id, tfd)
                    .ok_or_else(|| wrong("an item's number is in no fd table beside it"))?
                    .as_raw(),
            };
            items.push(Item {
                file: images.file_ref(target, Use::Description, place),
                fd: FdNumber::from_raw(number.unwrap_or(tfd)),
                events: Events::from_bits_retain(events),
                data,
                seniority: seniority.unwrap_or(0),
            });
        }
        let Some(EventpollStateEntry { pending, busy_poll }) = state else {
            return Ok(Self { status, busy_poll: None, watches: Watches::Added(items) });
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
        let interest = Interest { items, pending };
        set.wanted.borrow_mut().push(Wanted { epoll, interest });
        Ok(Self { status, busy_poll, watches: Watches::Exact(set) })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn create(&self, _: FileId, _: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let file = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(Error::kernel("epoll_create1", Self::NAME))?;
        self.status.apply(Self::NAME, file.as_fd())?;
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
                for left in set.rebuild().prepare(fd)? {
                    let (epoll, target) = (left.epoll.id(), left.file.id());
                    tracing::warn!(%epoll, %target, fd = %left.fd, "a fired one-shot is armed");
                }
            }
            return Ok(());
        }
        if let Some(set) = set {
            set.rebuild().finish(fd)?;
        }
        for Created { kind, file, .. } in files {
            if let Watches::Added(items) = &kind.watches {
                let insertion = |item: &Item<FileRef>| Insertion {
                    file: cx.file(item.file),
                    fd: item.fd,
                    events: item.events,
                    data: item.data,
                };
                insert(*file, &items.iter().map(insertion).collect::<Vec<_>>())?;
            }
        }
        Ok(())
    }
}
