//! Reading epolls where the kernel's structures cannot be read.
//!
//! `/proc/PID/fdinfo` and `kcmp(2)` tell what the items are. They do not tell
//! which edges are pending, in which order items are, and whose signals an item
//! waits for. So only what has a single answer is read: where at most one item
//! has something to report, and that is no edge. The kernel searches the items
//! one by one for each comparison.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use dormouse_kernel::kcmp::{self, EpollSlot};
use dormouse_kernel::proc::{Extra, PidfdTarget};
use dormouse_kernel::{DeviceId, FdNum, HostPid};
use epoll_interest::fdinfo::{self, Entry};
use epoll_interest::{Events, FdNumber, Interest, Item};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags};

use super::problem::{Hidden, ItemProblem};
use crate::file::{CollectCx, FileId, FsMagic, Probe};
use crate::{Error, Result};

/// Files that can be told from each other only by comparing them, in the order
/// that comparing gives.
type Class = Vec<(FileId, OwnedFd)>;

/// Inode and device, as fdinfo names them.
type Inode = (u64, u32);

/// What tells its items in one order: an open file, or what can be open several
/// times.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Queue {
    File(FileId),
    Inode(Inode),
    /// One end of a pipe.
    End(Inode, OFlags),
    Process(HostPid),
}

impl Queue {
    /// Those that tell of a file.
    fn of(probe: &Probe) -> Vec<Self> {
        let inode = inode(probe);
        match &probe.info.extra {
            Extra::Pidfd(PidfdTarget::Task { pid, .. }) => vec![Self::Process(*pid)],
            _ if probe.file_system == FsMagic::ANON_INODE => vec![Self::File(probe.id)],
            _ if probe.file_type() != FileType::Fifo => vec![Self::Inode(inode)],
            _ => match probe.flags() & OFlags::ACCMODE {
                OFlags::RDWR => {
                    [OFlags::RDONLY, OFlags::WRONLY].map(|end| Self::End(inode, end)).to_vec()
                }
                end => vec![Self::End(inode, end)],
            },
        }
    }
}

fn inode(probe: &Probe) -> Inode {
    (probe.stat.st_ino, DeviceId::from_stat(probe.stat.st_dev).as_kernel())
}

/// What it takes to read epolls so.
#[derive(Default)]
pub(super) struct Comparer {
    classes: BTreeMap<Inode, Class>,
    /// What some epoll was found to watch, and what of it exclusively: whom that
    /// tells first is not known.
    watched: HashSet<Queue>,
    exclusive: HashSet<Queue>,
}

fn own(fd: &impl AsRawFd) -> (HostPid, FdNum) {
    (HostPid::of_self(), FdNum::from_raw(fd.as_raw_fd().unsigned_abs()))
}

fn order(comparison: kcmp::Kcmp) -> Ordering {
    // The kernel always gives one.
    comparison.ordering().unwrap_or(Ordering::Less)
}

impl Comparer {
    /// The files with this inode.
    fn class(&mut self, cx: &CollectCx<'_>, inode: Inode) -> Result<&Class> {
        use std::collections::btree_map::Entry::{Occupied, Vacant};
        match self.classes.entry(inode) {
            Occupied(class) => Ok(class.into_mut()),
            Vacant(place) => {
                let probes = cx.probes.values();
                let probes = probes.filter(|it| it.has_description() && self::inode(it) == inode);
                let mut class: Class = probes
                    .map(|probe| Ok((probe.id, probe.duplicate()?)))
                    .collect::<Result<_>>()?;
                let mut failed = None;
                class.sort_by(|(_, one), (_, other)| {
                    kcmp::files(own(one), own(other)).map_or_else(
                        |error| {
                            failed = Some(error);
                            Ordering::Equal
                        },
                        order,
                    )
                });
                failed.map_or(Ok(()), Err)?;
                Ok(place.insert(class))
            }
        }
    }

    /// The items of an epoll and which of them it would report, and its
    /// listing.
    pub(super) fn read(
        &mut self,
        cx: &CollectCx<'_>,
        epoll: &OwnedFd,
    ) -> Result<(Interest<FileId>, Vec<Entry>)> {
        let path = format!("/proc/self/fdinfo/{}", epoll.as_raw_fd());
        let text = std::fs::read(&path).map_err(Error::kernel_io("read", &path))?;
        let number = FdNumber::from_raw(epoll.as_raw_fd().unsigned_abs());
        let listed = fdinfo::parse(&text)
            .map_err(|error| epoll_interest::InspectError::Parse(number, error))?;
        // How many items before one in the list have its number.
        let mut before: BTreeMap<u32, u32> = BTreeMap::new();
        let (mut items, mut pending) = (Vec::with_capacity(listed.len()), Vec::new());
        let mut of_epoll = HashSet::new();
        for entry in &listed {
            let Entry { fd, events, data, pos: _, ino, dev } = *entry;
            let refuse = |problem| Err(Error::EpollItem { number: fd.as_raw(), problem });
            let index = before.entry(fd.as_raw()).or_default();
            let target = FdNum::from_raw(fd.as_raw());
            let slot = EpollSlot { epoll: own(epoll).1, target, index: *index };
            *index += 1;
            let class = self.class(cx, (ino, dev))?;
            let mut failed = None;
            let found = class.binary_search_by(|(_, file)| {
                kcmp::epoll_target(own(file), (HostPid::of_self(), slot)).map_or_else(
                    |error| {
                        failed = Some(error);
                        Ordering::Equal
                    },
                    order,
                )
            });
            failed.map_or(Ok(()), Err)?;
            let Ok(place) = found else { return refuse(ItemProblem::Outside(None)) };
            let (file, target) = (class[place].0, &class[place].1);
            if cx.probes[&file].anonymous_inode() == Some("signalfd") {
                return refuse(ItemProblem::Hidden(Hidden::Signals));
            }
            let is_ready = events.intersects(conditions(target)?);
            if is_ready && events.contains(Events::ET) {
                return refuse(ItemProblem::Hidden(Hidden::Edge));
            }
            if is_ready {
                pending.push(items.len());
            }
            // Whom a file tells first does not matter where it tells each epoll
            // once, and all of them.
            let exclusive = events.contains(Events::EXCLUSIVE);
            for queue in Queue::of(&cx.probes[&file]) {
                let again = !self.watched.insert(queue);
                let one_is = exclusive || self.exclusive.contains(&queue);
                if !of_epoll.insert(queue) || again && one_is {
                    return refuse(ItemProblem::Hidden(Hidden::Order));
                }
                if exclusive {
                    self.exclusive.insert(queue);
                }
            }
            items.push(Item { file, fd, events, data, seniority: 0, queue: None });
        }
        if let [_, second, ..] = pending[..] {
            let number = listed[second].fd.as_raw();
            return Err(Error::EpollItem { number, problem: ItemProblem::Hidden(Hidden::Order) });
        }
        Ok((Interest { items, pending }, listed))
    }
}

/// What a file reports now.
fn conditions(file: &OwnedFd) -> Result<Events> {
    let all = PollFlags::from_bits_retain(Events::CONDITIONS.bits() as u16);
    let mut asked = [PollFd::from_borrowed_fd(file.as_fd(), all)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&at_once)).map_err(Error::kernel("poll", "what an epoll watches"))?;
    Ok(Events::from_bits_retain(asked[0].revents().bits().into()))
}
