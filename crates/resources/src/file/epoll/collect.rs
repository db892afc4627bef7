//! Reading epolls: what each item watches, and whether it is pending.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

use dormouse_image::proto::files::eventpoll::EventpollTfdEntry;
use dormouse_kernel::NsPid;
use dormouse_kernel::pidfd::PidFd;
use dormouse_kernel::proc::Extra;
use epoll_interest::fdinfo::Entry;
use epoll_interest::{FdNumber, FileKey, Inspection, Inspector, Interest, Item, SignalsKey};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::compare::Comparer;
use super::problem::ItemProblem;
use super::{Watches, outside};
use crate::file::{CollectCx, FdTable, FileId, Probe};
use crate::{Error, Result};

/// An item, and what CRIU's image says of it.
#[derive(Debug)]
pub(super) struct Collected {
    item: Item<FileId>,
    /// Whose signals it watches.
    adder: Option<NsPid>,
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
    /// Used instead once that cannot be had.
    comparer: Option<Comparer>,
    files: HashMap<FileKey, FileId>,
    /// Whose signals are whose, once that is asked for.
    signals: Option<HashMap<SignalsKey, NsPid>>,
}

/// An epoll, read.
struct Reading {
    interest: Interest<FileId>,
    /// The same items in the same order.
    listed: Vec<Entry>,
    /// By index.
    adders: HashMap<usize, NsPid>,
}

impl Reader {
    /// Items with what they watch, their listing, and who has added which.
    fn read(&mut self, cx: &CollectCx<'_>, epoll: &OwnedFd) -> Result<Reading> {
        if self.inspector.is_none() && self.comparer.is_none() {
            self.set_up(cx)?;
        }
        if let Some(comparer) = &mut self.comparer {
            let (interest, listed) = comparer.read(cx, epoll)?;
            return Ok(Reading { interest, listed, adders: HashMap::new() });
        }
        let inspector = self.inspector.as_mut().expect("it is set up");
        let found = inspector.get_events(epoll.as_fd())?;
        let adders = self.adders(cx, epoll, &found)?;
        let Inspection { interest, listed, .. } = found;
        let interest = self.name(interest, &listed)?;
        Ok(Reading { interest, listed, adders })
    }

    fn set_up(&mut self, cx: &CollectCx<'_>) -> Result<()> {
        let mut inspector = match Inspector::new() {
            Ok(inspector) => inspector,
            Err(missing) => {
                tracing::debug!(error = %missing, "epolls are read by comparing files");
                self.comparer = Some(Comparer::default());
                return Ok(());
            }
        };
        let open: Vec<_> = cx.probes.values().filter(|probe| probe.has_description()).collect();
        for probes in open.chunks(BATCH) {
            let files: Vec<_> =
                probes.iter().map(|probe| probe.duplicate()).collect::<Result<_>>()?;
            let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
            let keys = inspector.file_keys(&fds)?;
            self.files.extend(keys.into_iter().zip(probes.iter().map(|probe| probe.id)));
        }
        self.inspector = Some(inspector);
        Ok(())
    }

    /// Puts our numbers of files in the place of their keys.
    fn name(&mut self, interest: Interest<FileKey>, listed: &[Entry]) -> Result<Interest<FileId>> {
        let Self { inspector, files, .. } = self;
        let mut entries = listed.iter();
        interest.try_map(|item| {
            let entry = entries.next();
            files.get(&item.file).copied().ok_or_else(|| {
                let looked = inspector.as_mut().zip(entry);
                let holder = looked
                    .and_then(|(inspector, entry)| outside::holder(inspector, item.file, entry));
                let problem = ItemProblem::Outside(holder);
                Error::EpollItem { number: item.fd.as_raw(), problem }
            })
        })
    }

    /// By index, the processes that have added items on signalfds.
    fn adders(
        &mut self,
        cx: &CollectCx<'_>,
        epoll: &OwnedFd,
        found: &Inspection,
    ) -> Result<HashMap<usize, NsPid>> {
        let Self { inspector, files, signals, .. } = self;
        let target = |item: &Item<FileKey>| files.get(&item.file).map(|file| &cx.probes[file]);
        let items = found.interest.items.iter().enumerate();
        let items = items.filter(|(_, item)| target(item).is_some_and(is_signalfd));
        let items: Vec<_> = items.map(|(index, _)| index).collect();
        let Some(inspector) = inspector.as_mut().filter(|_| !items.is_empty()) else {
            return Ok(HashMap::new());
        };
        let signals = match signals {
            Some(signals) => signals,
            None => {
                let mut found = HashMap::new();
                for &process in cx.processes() {
                    let key = inspector.signals_of(PidFd::open(process)?.as_fd())?;
                    if let Some(pid) = cx.ns_pid(process) {
                        found.entry(key).or_insert(pid);
                    }
                }
                signals.insert(found)
            }
        };
        let awaited = inspector.signals_awaited(epoll.as_fd(), found, &items)?;
        let adder = |(index, key): (usize, Option<SignalsKey>)| {
            let problem = match key.map(|key| signals.get(&key)) {
                Some(Some(&pid)) => return Ok((index, pid)),
                Some(None) => ItemProblem::OthersSignals,
                None => ItemProblem::NobodysSignals,
            };
            let number = found.interest.items[index].fd.as_raw();
            Err(Error::EpollItem { number, problem })
        };
        items.into_iter().zip(awaited).map(adder).collect()
    }
}

fn is_signalfd(probe: &Probe) -> bool {
    probe.anonymous_inode() == Some("signalfd")
}

/// A one-shot that has fired can only be made by being fired again. All kinds
/// report something while they are new, or can be made to, but a pidfd: that
/// of a task which lives has nothing to report, and never had.
fn check_fired(item: &Item<FileId>, target: &Probe) -> Result<()> {
    let fired = match &target.info.extra {
        Extra::Pidfd(_) => reports(target)?,
        _ => true,
    };
    if fired {
        return Ok(());
    }
    let problem = ItemProblem::Fired(target.link.clone());
    Err(Error::EpollItem { number: item.fd.as_raw(), problem })
}

fn reports(target: &Probe) -> Result<bool> {
    let file = target.duplicate()?;
    let mut asked = [PollFd::new(&file, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&at_once)).map_err(Error::kernel("poll", &target.link))?;
    Ok(!asked[0].revents().is_empty())
}

/// By file, its lowest number in the table.
fn numbers(table: Option<&FdTable<FileId>>) -> HashMap<FileId, Vec<u32>> {
    let mut numbers: HashMap<FileId, Vec<u32>> = HashMap::new();
    for descriptor in table.into_iter().flat_map(|table| &table.entries) {
        numbers.entry(descriptor.file).or_default().push(descriptor.fd.as_raw());
    }
    numbers
}

pub(super) fn watches(cx: &CollectCx<'_>, probe: &Probe, epoll: &OwnedFd) -> Result<Watches> {
    let Reading { interest, listed, adders } = cx.part::<Reader>().read(cx, epoll)?;
    let pending = interest.pending.clone();
    for item in interest.items.iter().filter(|item| item.fired()) {
        check_fired(item, &cx.probes[&item.file])?;
    }
    let holds = |table: &&FdTable<FileId>| table.entries.iter().any(|own| own.file == probe.id);
    let numbers = numbers(cx.tables.iter().find(holds));
    let found = |(index, (item, entry)): (usize, (Item<FileId>, Entry))| {
        let own = item.fd.as_raw();
        let there = numbers.get(&item.file);
        let same = there.and_then(|there| there.iter().find(|&&number| number == own));
        let number = same.or(there.and_then(|there| there.first()));
        Collected {
            adder: adders.get(&index).copied(),
            number: number.map(|&number| FdNumber::from_raw(number)),
            item,
            device: entry.dev,
            inode: entry.ino,
            offset: entry.pos,
        }
    };
    let items = interest.items.into_iter().zip(listed).enumerate();
    let mut items: Vec<_> = items.map(found).enumerate().collect();
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
    pub(super) fn entry(&self) -> EventpollTfdEntry {
        let Self { item, adder, number, device, inode, offset } = self;
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
            adder: adder.map(|pid| pid.as_raw().unsigned_abs()),
            seniority: Some(*seniority).filter(|&seniority| seniority != 0),
        }
    }
}
