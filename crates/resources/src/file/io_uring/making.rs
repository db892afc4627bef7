//! Making a ring that has gone as far as another.
//!
//! The kernel counts requests and completions for itself, from zero on, and only requests move it on:
//! so as many are made as there were, which do nothing. The counts are of 32 bits, and
//! go round. Of the program's own requests one brings at most one completion, or many; so there are
//! requests without completions, and completions that another ring sends.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use dormouse_kernel::io_uring::{
    self, ENTER_GETEVENTS, OFF_SQES, OP_MSG_RING, Params, Places, Region, SQE_CQE_SKIP_SUCCESS,
    Setup,
};
use dormouse_kernel::pidfd::PidFd;
use dormouse_kernel::{Addr, Errno, FdNum};
use dormouse_puppet::{Arg, Bare, Batch};

use super::{NAME, Queues, number};
use crate::{Error, Result};

/// About how many calls a batch has at most.
const AT_ONCE: usize = 256;
/// Places of the ring that sends completions.
const SENDER: u32 = 1024;

/// A ring on its way, in the process that makes it.
struct Making<'a> {
    puppet: &'a mut Bare,
    queues: &'a Queues,
    /// The descriptor there, and here.
    fd: u32,
    ring: OwnedFd,
    /// Where it is mapped there, for now, and here.
    at: Addr,
    rings: Region,
    requests: Region,
}

impl Queues {
    /// Has a process make the ring, and take and give so many.
    pub(super) fn make(&self, puppet: &mut Bare, (taken, given): (u32, u32)) -> Result<OwnedFd> {
        let mut making = Making::begin(self, puppet)?;
        making.advance(taken, given)?;
        self.write(&making.rings, &making.requests)?;
        making.end()
    }

    /// Puts everything into the ring's memory that was there. The flags are what the kernel says
    /// of this ring.
    pub(super) fn write(&self, to_rings: &Region, to_requests: &Region) -> Result<()> {
        let Self { places, rings, .. } = self;
        let flags = places.sq_flags as usize;
        let mut all = vec![0; self.rings_len];
        all[..rings.len()].copy_from_slice(rings);
        to_rings.write(0, &all[..flags]).map_err(kernel("write"))?;
        to_rings.write(flags + 4, &all[flags + 4..]).map_err(kernel("write"))?;
        self.write_requests(to_rings, to_requests)
    }

    /// The same of what the program has yet to submit, and nothing else.
    pub(super) fn write_requests(&self, to_rings: &Region, to_requests: &Region) -> Result<()> {
        let Self { places, rings, requests, .. } = self;
        let array = places.array as usize;
        if array > 0 {
            let mut all = vec![0; self.rings_len - array];
            let kept = rings.get(array..).unwrap_or_default();
            all[..kept.len()].copy_from_slice(kept);
            to_rings.write(array, &all).map_err(kernel("write"))?;
        }
        let tail = number(rings, places.sq_tail).to_ne_bytes();
        to_rings.write(places.sq_tail as usize, &tail).map_err(kernel("write"))?;
        let mut all = vec![0; self.requests_len];
        all[..requests.len()].copy_from_slice(requests);
        to_requests.write(0, &all).map_err(kernel("write"))
    }
}

pub(super) fn kernel(call: &'static str) -> impl FnOnce(Errno) -> Error {
    Error::kernel(call, NAME)
}

/// Brings a descriptor here. The task may be any thread.
fn fetch(puppet: &Bare, fd: u32) -> Result<OwnedFd> {
    let task = puppet.tid();
    let pidfd = PidFd::open(task).or_else(|_| PidFd::open_thread(task))?;
    Ok(pidfd.get_fd(FdNum::from_raw(fd))?)
}

/// The kernel makes another kind of ring than is needed.
pub(super) fn other() -> Error {
    Error::Unsupported {
        object: "an io_uring",
        detail: "to be restored".into(),
        reason: "this kernel makes rings of another form",
        hint: "restore it on the kernel that it was dumped on",
    }
}

impl<'a> Making<'a> {
    fn begin(queues: &'a Queues, puppet: &'a mut Bare) -> Result<Self> {
        let Queues { setup, sq_entries, cq_entries, places, rings_len, requests_len, .. } = *queues;
        // Another ring's threads mean nothing to one that has none.
        let mut flags = setup - Setup::ATTACH_WQ;
        if cq_entries != 2 * sq_entries {
            flags |= Setup::CQSIZE;
        }
        let flags = flags.bits();
        let asked = Params { sq_entries, cq_entries, flags, ..Params::default() };
        let mut batch = Batch::new();
        let params = batch.in_out(&asked.to_bytes());
        let fd = batch.call(libc::SYS_io_uring_setup, [sq_entries.into(), (&params).into()]);
        let (prot, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        let [none, len] = [Arg::from(0), (rings_len as u64).into()];
        let at = batch
            .call(libc::SYS_mmap, [none, len, prot.into(), shared.into(), (&fd).into(), 0.into()]);
        let replies = puppet.run(batch)?;
        let made = Params::from_bytes(replies.array(&params));
        let (fd, at) = (replies.value(&fd) as u32, Addr::from_raw(replies.value(&at)));
        let expected = (sq_entries, cq_entries, places);
        if (made.sq_entries, made.cq_entries, made.places) != expected {
            return Err(other());
        }
        let ring = fetch(puppet, fd)?;
        let rings = Region::map(ring.as_fd(), 0, rings_len).map_err(kernel("mmap"))?;
        let requests = Region::map(ring.as_fd(), OFF_SQES, requests_len).map_err(kernel("mmap"))?;
        Ok(Self { puppet, queues, fd, ring, at, rings, requests })
    }

    /// Has the kernel's counts go as far as they were.
    fn advance(&mut self, taken: u32, given: u32) -> Result<()> {
        let Queues { setup, sq_entries, cq_entries, places, .. } = *self.queues;
        if (taken, given) == (0, 0) {
            return Ok(());
        }
        // All requests are zeros still: they do nothing.
        let both = taken.min(given);
        self.submit(both, both, true)?;
        if taken > both {
            let size = self.queues.request_size();
            let mut requests = vec![0; size * sq_entries as usize];
            requests.chunks_exact_mut(size).for_each(|request| request[1] = SQE_CQE_SKIP_SUCCESS);
            self.requests.write(0, &requests).map_err(kernel("write"))?;
            self.submit(taken, taken - both, false)?;
        }
        if given > both {
            let Self { puppet, fd, rings, .. } = self;
            send(self.ring.as_fd(), (given - both, cq_entries), || {
                ask(puppet, *fd, setup)?;
                drain(rings, &places)
            })?;
        }
        let reached = [places.sq_head, places.cq_tail].map(|at| self.rings.number(at as usize));
        if reached != [Ok(taken), Ok(given)] {
            return Err(other());
        }
        Ok(())
    }

    /// Has the ring take requests, `count` of them, and `upto` altogether.
    fn submit(&mut self, upto: u32, count: u32, completes: bool) -> Result<()> {
        let Queues { sq_entries, cq_entries, places, .. } = *self.queues;
        self.rings.write(places.sq_tail as usize, &upto.to_ne_bytes()).map_err(kernel("write"))?;
        let (fd, head) = (self.fd, self.queues.head(self.at));
        let places = completes.then_some((cq_entries, head));
        repeat(self.puppet, count, sq_entries, places, |batch, some| {
            batch.call(libc::SYS_io_uring_enter, [fd.into(), some.into(), 0.into(), 0.into()]);
        })?;
        drain(&self.rings, &self.queues.places)
    }

    /// Leaves nothing of it in the process.
    fn end(self) -> Result<OwnedFd> {
        let mut batch = Batch::new();
        let len = self.queues.rings_len as u64;
        batch.call(libc::SYS_munmap, [self.at.into(), len.into()]);
        batch.call(libc::SYS_close, [self.fd.into()]);
        self.puppet.run(batch)?;
        Ok(self.ring)
    }
}

/// Has a ring of this process send completions to another, up to `most` at a time; `each` is to have them
/// arrive.
pub(super) fn send(
    ring: BorrowedFd<'_>,
    (count, most): (u32, u32),
    mut each: impl FnMut() -> Result<()>,
) -> Result<()> {
    let mut params = Params { sq_entries: SENDER, ..Params::default() };
    let sender = io_uring::setup(&mut params).map_err(kernel("io_uring_setup"))?;
    let places = params.places;
    let rings = Region::map(sender.as_fd(), 0, places.completions as usize);
    let rings = rings.map_err(kernel("mmap"))?;
    let requests = Region::map(sender.as_fd(), OFF_SQES, 64 * SENDER as usize);
    let requests = requests.map_err(kernel("mmap"))?;
    // Every place leads to the first request.
    let mut request = [0; 64];
    (request[0], request[1]) = (OP_MSG_RING, SQE_CQE_SKIP_SUCCESS);
    request[4..8].copy_from_slice(&ring.as_raw_fd().to_ne_bytes());
    requests.write(0, &request).map_err(kernel("write"))?;
    rings.write(places.sq_tail as usize, &count.to_ne_bytes()).map_err(kernel("write"))?;
    let mut left = count;
    while left > 0 {
        let some = left.min(most).min(SENDER);
        if io_uring::submit(sender.as_fd(), some).map_err(kernel("io_uring_enter"))? != some {
            return Err(other());
        }
        each()?;
        left -= some;
    }
    Ok(())
}

/// Has completions arrive that wait until the task asks for them, if that is how the ring was set up.
pub(super) fn ask(puppet: &mut Bare, ring: u32, setup: Setup) -> Result<()> {
    if setup.contains(Setup::DEFER_TASKRUN) {
        let mut batch = Batch::new();
        let flags = ENTER_GETEVENTS.into();
        batch.call(libc::SYS_io_uring_enter, [ring.into(), 0.into(), 0.into(), flags]);
        puppet.run(batch)?;
    }
    Ok(())
}

/// Whatever follows begins with all places.
fn drain(rings: &Region, places: &Places) -> Result<()> {
    let tail = rings.number(places.cq_tail as usize).map_err(kernel("read"))?;
    rings.write(places.cq_head as usize, &tail.to_ne_bytes()).map_err(kernel("write"))
}

/// Makes calls for `count` things, up to `most` at a time. If they complete in so many places, those
/// are freed in time by counting the number at an address on.
fn repeat(
    puppet: &mut Bare,
    count: u32,
    most: u32,
    places: Option<(u32, Addr)>,
    call: impl Fn(&mut Batch, u32),
) -> Result<()> {
    let mut free = places.map_or(u32::MAX, |(places, _)| places);
    let mut left = count;
    let mut batch = Batch::new();
    while left > 0 {
        let some = left.min(most).min(free);
        call(&mut batch, some);
        left -= some;
        if let Some((places, head)) = places {
            free -= some;
            if free == 0 {
                add(&mut batch, head, places);
                free = places;
            }
        }
        if batch.len() >= AT_ONCE || left == 0 {
            puppet.run(std::mem::take(&mut batch))?;
        }
    }
    Ok(())
}

/// Adds a power of two to a number in the process's memory (`FUTEX_WAKE_OP`, `futex(2)`).
fn add(batch: &mut Batch, at: Addr, number: u32) {
    const ADD_SHIFTED: u32 = 1 | 8;
    let how = libc::FUTEX_WAKE_OP | libc::FUTEX_PRIVATE_FLAG;
    let what = ADD_SHIFTED << 28 | number.trailing_zeros() << 12;
    let [here, none] = [Arg::from(at), 0.into()];
    batch.call(libc::SYS_futex, [here, how.into(), none, none, here, what.into()]);
}
