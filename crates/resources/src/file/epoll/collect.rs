//! Reading epolls: what each item watches, and whether it is pending.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};

use dormouse_image::proto::files::eventpoll::{EventpollTfdEntry, Items};
use dormouse_kernel::NsPid;
use dormouse_kernel::pidfd::PidFd;
use dormouse_kernel::proc::Extra;
use epoll_interest::{FileKey, Inspection, Inspector, Interest, Item, Listed, SignalsKey};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::compare::Comparer;
use super::problem::ItemProblem;
use super::signals::Adder;
use super::{Epoll, Watches, outside};
use crate::file::{CollectCx, FdTable, FileId, FileKind, Probe};
use crate::{Error, Result};

/// The items of an epoll as its image has them.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) items: Items,
    /// How many of them are pending: those come first, first to be reported first.
    pub(super) pending: u32,
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
    /// Those of the whole tree that were read and are not handed out yet.
    readings: HashMap<FileId, Result<Reading>>,
    files: HashMap<FileKey, FileId>,
    /// Whose signals are whose, once that is asked for.
    signals: Option<HashMap<SignalsKey, NsPid>>,
}

/// An epoll, read.
struct Reading {
    interest: Interest<FileId>,
    files: HashMap<FileId, Listed>,
    /// By index.
    adders: HashMap<usize, Adder>,
}

impl Reader {
    /// Items with what they watch, their listing, and who has added which.
    fn read(&mut self, cx: &CollectCx<'_>, probe: &Probe, epoll: &OwnedFd) -> Result<Reading> {
        if self.inspector.is_none() && self.comparer.is_none() {
            self.set_up(cx)?;
            self.read_all(cx)?;
        }
        if let Some(comparer) = &mut self.comparer {
            let (interest, listed) = comparer.read(cx, epoll)?;
            let files = interest.items.iter().zip(&listed);
            let files = files.map(|(item, entry)| (item.file, entry.into())).collect();
            return Ok(Reading { interest, files, adders: HashMap::new() });
        }
        self.readings.remove(&probe.id).expect("all that are there were read, each once")
    }

    /// Reads all epolls of the tree, as files can tell the items of several in
    /// one order.
    fn read_all(&mut self, cx: &CollectCx<'_>) -> Result<()> {
        let Some(inspector) = &mut self.inspector else { return Ok(()) };
        let (mut epolls, mut inspections) = (Vec::new(), Vec::new());
        for probe in cx.probes.values().filter(|probe| Epoll::claims(probe)) {
            let epoll = probe.duplicate()?;
            match inspector.get_events(epoll.as_fd()) {
                Ok(found) => {
                    epolls.push((probe.id, epoll));
                    inspections.push(found);
                }
                Err(error) => drop(self.readings.insert(probe.id, Err(error.into()))),
            }
        }
        let shared = inspector.shared_queues(&inspections.iter().collect::<Vec<_>>())?;
        let readings = epolls.into_iter().zip(inspections);
        let mut readings: Vec<_> =
            readings.map(|((id, epoll), found)| (id, self.resolve(cx, &epoll, found))).collect();
        let interests = readings.iter_mut();
        let interests = interests.map(|(_, it)| Some(&mut it.as_mut().ok()?.interest));
        shared.order(&mut interests.collect::<Vec<_>>());
        self.readings.extend(readings);
        Ok(())
    }

    fn resolve(
        &mut self,
        cx: &CollectCx<'_>,
        epoll: &OwnedFd,
        found: Inspection,
    ) -> Result<Reading> {
        let adders = self.adders(cx, epoll, &found)?;
        let Inspection { interest, files: listed, .. } = found;
        let interest = self.name(interest, &listed)?;
        let files = listed.into_iter().map(|(key, listed)| (self.files[&key], listed)).collect();
        Ok(Reading { interest, files, adders })
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
        let read = open.iter().filter_map(|probe| Some((probe.kernel_id?.watched_as(), probe.id)));
        self.files.extend(read);
        let others: Vec<_> = open.iter().filter(|probe| probe.kernel_id.is_none()).collect();
        for probes in others.chunks(BATCH) {
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
    fn name(
        &mut self,
        interest: Interest<FileKey>,
        listed: &BTreeMap<FileKey, Listed>,
    ) -> Result<Interest<FileId>> {
        let Self { inspector, files, .. } = self;
        interest.try_map(|item| {
            files.get(&item.file).copied().ok_or_else(|| {
                let looked = inspector.as_mut().zip(listed.get(&item.file));
                let holder = looked
                    .and_then(|(inspector, listed)| outside::holder(inspector, item.file, listed));
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
    ) -> Result<HashMap<usize, Adder>> {
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
        let adder =
            |(index, key): (usize, Option<SignalsKey>)| match key.map(|key| signals.get(&key)) {
                Some(Some(&pid)) => Ok((index, Adder::Process(pid))),
                None => Ok((index, Adder::Ended)),
                Some(None) => {
                    let number = found.interest.items[index].fd.as_raw();
                    Err(Error::EpollItem { number, problem: ItemProblem::OthersSignals })
                }
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

/// By file, its numbers in the table, in their order.
fn numbers(table: Option<&FdTable<FileId>>) -> HashMap<FileId, Vec<u32>> {
    let mut numbers: HashMap<FileId, Vec<u32>> = HashMap::new();
    for descriptor in table.into_iter().flat_map(|table| &table.entries) {
        numbers.entry(descriptor.file).or_default().push(descriptor.fd.as_raw());
    }
    numbers.values_mut().for_each(|numbers| numbers.sort_unstable());
    numbers
}

pub(super) fn watches(cx: &CollectCx<'_>, probe: &Probe, epoll: &OwnedFd) -> Result<Watches> {
    let Reading { interest, files, adders } = cx.part::<Reader>().read(cx, probe, epoll)?;
    let Interest { items, pending } = interest;
    for item in items.iter().filter(|item| item.fired()) {
        check_fired(item, &cx.probes[&item.file])?;
    }
    let holds = |table: &&FdTable<FileId>| table.entries.iter().any(|own| own.file == probe.id);
    let numbers = numbers(cx.tables.iter().find(holds));
    let entry = |&index: &u32| {
        let item = &items[index as usize];
        let there = numbers.get(&item.file).map(Vec::as_slice).unwrap_or_default();
        let own = there.binary_search(&item.fd.as_raw()).unwrap_or(0);
        let adder = adders.get(&(index as usize)).copied();
        entry(item, there.get(own).copied(), files[&item.file], adder)
    };
    // CRIU adds them in the order of the image, so what is pending comes first. For the others the
    // kernel has an order that is another each time. (The kernel's limit, max_user_watches, is far
    // below 32 bits.)
    let count = items.len() as u32;
    let mut turns = vec![u32::MAX; items.len()];
    for (turn, index) in (0..).zip(&pending) {
        turns[*index] = turn;
    }
    let mut order: Vec<u32> = (0..count).collect();
    order.sort_unstable_by_key(|&index| {
        let Item { file, fd, .. } = &items[index as usize];
        (turns[index as usize], *fd, *file)
    });
    let pending = pending.len() as u32;
    let items = order.iter().map(entry).collect();
    Ok(Watches::Collected(Collected { items, pending }))
}

/// An item whose file has this number in an fd table that has the epoll.
fn entry(
    item: &Item<FileId>,
    number: Option<u32>,
    Listed { pos, ino, dev }: Listed,
    adder: Option<Adder>,
) -> EventpollTfdEntry {
    let Item { file, fd, events, data, seniority, queue } = item;
    let tfd = number.unwrap_or(NO_NUMBER);
    EventpollTfdEntry {
        id: 0,
        tfd,
        events: events.bits(),
        data: *data,
        dev: Some(dev),
        inode: Some(ino),
        pos: Some(pos.cast_unsigned()),
        target: Some(file.as_raw()),
        number: (fd.as_raw() != tfd).then_some(fd.as_raw()),
        adder: adder.map(Adder::encode),
        seniority: Some(*seniority).filter(|&seniority| seniority != 0),
        queue: queue.map(NonZeroU32::get),
    }
}
