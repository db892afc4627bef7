//! An epoll of this process, which is read both ways before anything is believed.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::fcntl_dupfd_cloexec;

use super::{Inspection, Listed};
use crate::fdinfo::{self, Entry};

/// An epoll with items of every state, and what they watch.
pub(super) struct Own {
    pub(super) epoll: OwnedFd,
    _files: Vec<OwnedFd>,
}

/// Data of the items that are pending, first to be reported first.
const PENDING: [u64; 3] = [2, 5 << 32, 7];
/// How many there are.
const ITEMS: usize = 8;

impl Own {
    pub(super) fn new() -> io::Result<Self> {
        let new_epoll = || epoll::create(CreateFlags::CLOEXEC);
        let event = |count| eventfd(count, EventfdFlags::CLOEXEC);
        let (epoll, ready, silent) = (new_epoll()?, event(1)?, event(0)?);
        let (nested, other, watched) = (new_epoll()?, event(1)?, event(1)?);
        let (input, output, edge) = (EventFlags::IN, EventFlags::OUT, EventFlags::ET);
        let add = |file: &OwnedFd, data, events| {
            epoll::add(&epoll, file, EventData::new_u64(data), events)
        };
        // A one-shot that fires and an edge that is consumed; all others come later.
        add(&ready, 0, input | EventFlags::ONESHOT)?;
        add(&other, 1, input | edge)?;
        let mut reports: Vec<epoll::Event> = Vec::with_capacity(ITEMS);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&epoll, spare_capacity(&mut reports), Some(&at_once))?;
        add(&watched, 2, input | output | edge)?;
        add(&silent, u64::MAX, input | EventFlags::EXCLUSIVE)?;
        epoll::add(&nested, &silent, EventData::new_u64(3), input)?;
        add(&nested, 4, input)?;
        // Under numbers that are closed.
        let again = fcntl_dupfd_cloexec(&ready, 0)?;
        add(&again, 5 << 32, input)?;
        add(&fcntl_dupfd_cloexec(&silent, 0)?, 6, input | edge)?;
        // One with an inode of its own, and an offset.
        let mut mounts = File::open("/proc/thread-self/mounts")?;
        mounts.read_exact(&mut [0; 5])?;
        let mounts = OwnedFd::from(mounts);
        add(&mounts, 7, EventFlags::RDNORM)?;
        Ok(Self { epoll, _files: vec![ready, silent, nested, other, watched, mounts] })
    }

    /// Whether its fdinfo tells the same, and what is pending is what was left so.
    pub(super) fn agrees(
        &self,
        Inspection { interest, files, .. }: &Inspection,
    ) -> io::Result<bool> {
        let text = std::fs::read(format!("/proc/thread-self/fdinfo/{}", self.epoll.as_raw_fd()))?;
        let listed = fdinfo::parse(&text).map_err(io::Error::other)?;
        // In the order of the kernel's tree.
        let mut items: Vec<_> = interest.items.iter().collect();
        items.sort_unstable_by_key(|item| (item.file, item.fd));
        let same = items.iter().zip(&listed).all(|(item, entry)| {
            let Entry { fd, events, data, .. } = *entry;
            (item.fd, item.events, item.data) == (fd, events, data)
                && files.get(&item.file) == Some(&Listed::from(entry))
        });
        let pending = interest.pending.iter().map(|&item| interest.items[item].data);
        Ok(same && [items.len(), listed.len()] == [ITEMS, ITEMS] && pending.eq(PENDING))
    }
}
