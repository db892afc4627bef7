//! Having requests wait again.
//!
//! They are made as the program made them: by the tasks that did, with the credentials that those have, and when all
//! that is restored is in its place, so that nothing of that is taken for an event. But descriptors come
//! from this process only as long as the tasks may ask it for some: so they are held from before on.
//!
//! A poll that tells many times tells at once of what is there already, and the program may have been
//! told before. So the ring is left behind by as many completions as there are such polls, which are made first; what they
//! tell now is forgotten if it is nothing else. Whatever else completes has happened, and is kept.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use dormouse_kernel::io_uring::{ENTER_GETEVENTS, OFF_SQES, Region, Setup};
use dormouse_kernel::{Addr, NsPid, remote_memory};
use dormouse_puppet::{Arg, Bare, Batch, Slot};

use super::making::{ask, kernel, other, send};
use super::request::Request;
use super::{IoUring, Queues};
use crate::Result;
use crate::file::{CreatedFiles, FileRef};

/// Tasks of the tree, which are puppets still.
pub trait RingTasks {
    /// One of them.
    fn puppet(&mut self, task: NsPid) -> &mut Bare;

    /// Adds a call that fetches a descriptor of this process.
    fn fetch(&self, batch: &mut Batch, file: BorrowedFd<'_>) -> Slot;
}

/// `struct timespec`.
const TIME: usize = 16;
/// The most requests that are made in one call.
const AT_ONCE: u32 = 256;
/// The most descriptors that are fetched in one batch.
const FETCHED: usize = 512;

/// A ring whose requests are about to wait again.
#[derive(Debug)]
pub struct Resuming<'a> {
    queues: &'a Queues,
    ring: BorrowedFd<'a>,
    rings: Region,
    requests: Region,
    /// By the tasks that make them.
    holders: BTreeMap<NsPid, Holder<'a>>,
    /// How many requests were taken and completions given by now.
    taken: u32,
    given: u32,
    /// Completions of things that have happened.
    news: Vec<Vec<u8>>,
    /// The polls that may still tell again what they have told.
    told: Vec<&'a Request>,
}

/// What a task holds until it has made its requests.
#[derive(Debug)]
struct Holder<'a> {
    requests: Vec<&'a Request>,
    /// Descriptors: of the ring and other files.
    ring: u32,
    files: BTreeMap<FileRef, u32>,
    /// Where the times of its timeouts are, in their order.
    times: Addr,
    times_len: u64,
}

impl IoUring {
    /// Registers files, and has tasks hold what they need to make requests that waited.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(in crate::file) fn hold<'a>(
        &'a self,
        ring: BorrowedFd<'a>,
        files: &CreatedFiles<'_>,
        tasks: &mut dyn RingTasks,
    ) -> Result<Option<Resuming<'a>>> {
        if let Some(registered) = &self.registered {
            registered.register(ring, files, tasks)?;
        }
        if self.requests.is_empty() {
            return Ok(None);
        }
        let queues = &self.queues;
        let map = |offset, len| Region::map(ring, offset, len).map_err(kernel("mmap"));
        let (taken, given) = self.behind();
        let mut of_tasks: BTreeMap<NsPid, Vec<&Request>> = BTreeMap::new();
        for request in &self.requests {
            of_tasks.entry(request.task).or_default().push(request);
        }
        let mut holders = BTreeMap::new();
        for (task, requests) in of_tasks {
            holders.insert(task, Holder::new(requests, (ring, files), (task, tasks))?);
        }
        Ok(Some(Resuming {
            queues,
            ring,
            rings: map(0, queues.rings_len)?,
            requests: map(OFF_SQES, queues.requests_len)?,
            holders,
            taken,
            given,
            news: Vec::new(),
            told: self.told().collect(),
        }))
    }

    /// How far the ring is to be left before: requests taken and completions given.
    pub(super) fn behind(&self) -> (u32, u32) {
        let Queues { taken, given, .. } = self.queues;
        (taken - self.requests.len() as u32, given - self.told().count() as u32)
    }

    fn told(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(|request| request.told != 0)
    }
}

impl<'a> Holder<'a> {
    fn new(
        requests: Vec<&'a Request>,
        (ring, created): (BorrowedFd<'_>, &CreatedFiles<'_>),
        (task, tasks): (NsPid, &mut dyn RingTasks),
    ) -> Result<Self> {
        let times: Vec<u8> = requests
            .iter()
            .filter_map(|request| request.time)
            .flat_map(|(seconds, nanos)| [seconds, nanos.into()])
            .flat_map(u64::to_ne_bytes)
            .collect();
        let times_len = times.len() as u64;
        let mut batch = Batch::new();
        let own = tasks.fetch(&mut batch, ring);
        let at = (times_len > 0).then(|| {
            let (prot, how) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
            let how = how | libc::MAP_ANONYMOUS;
            let args =
                [0.into(), times_len.into(), prot.into(), how.into(), Arg::from(-1), 0.into()];
            batch.call(libc::SYS_mmap, args)
        });
        let replies = tasks.puppet(task).run(batch)?;
        let ring = replies.value(&own) as u32;
        let at = at.map_or(Addr::NULL, |at| Addr::from_raw(replies.value(&at)));
        if times_len > 0 {
            remote_memory::write_exact(tasks.puppet(task).tid(), at, &times)
                .map_err(|error| kernel("process_vm_writev")(error.source))?;
        }
        let mut wanted: Vec<_> = requests.iter().filter_map(|request| request.file).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut files = BTreeMap::new();
        for some in wanted.chunks(FETCHED) {
            let mut batch = Batch::new();
            let slots: Vec<_> =
                some.iter().map(|&file| tasks.fetch(&mut batch, created.get(file))).collect();
            let replies = tasks.puppet(task).run(batch)?;
            let numbers = slots.iter().map(|slot| replies.value(slot) as u32);
            files.extend(some.iter().copied().zip(numbers));
        }
        Ok(Self { requests, ring, files, times: at, times_len })
    }

    /// Requests as the kernel reads them: those that come first, or those that come then.
    fn made(&self, first: bool) -> Vec<[u8; 64]> {
        let mut time = self.times.as_raw();
        let mut made = Vec::new();
        for request in &self.requests {
            let fd = request.file.map_or(u32::MAX, |file| self.files[&file]);
            if (request.told != 0) == first {
                made.push(request.to_bytes(fd, time));
            }
            if request.time.is_some() {
                time += TIME as u64;
            }
        }
        made
    }

    /// Adds calls that leave nothing of it.
    fn let_go(&self, batch: &mut Batch) {
        for &fd in self.files.values().chain([&self.ring]) {
            batch.call(libc::SYS_close, [fd.into()]);
        }
        if self.times_len > 0 {
            batch.call(libc::SYS_munmap, [self.times.into(), self.times_len.into()]);
        }
    }
}

impl Resuming<'_> {
    /// Has all requests wait again that did, when everything else is as it was.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn resume(mut self, tasks: &mut dyn RingTasks) -> Result<()> {
        let holders = std::mem::take(&mut self.holders);
        let Queues { places, .. } = *self.queues;
        // The memory has the words that are to be, and not those of the ring so far.
        self.set(places.sq_head, self.taken)?;
        self.set(places.cq_tail, self.given)?;
        for (&task, holder) in &holders {
            self.make(holder.made(true), (tasks.puppet(task), holder.ring), true)?;
        }
        if let Some((&task, holder)) = holders.first_key_value() {
            self.catch_up(tasks.puppet(task), holder.ring)?;
        }
        self.tell()?;
        for (&task, holder) in &holders {
            self.make(holder.made(false), (tasks.puppet(task), holder.ring), false)?;
            let mut batch = Batch::new();
            holder.let_go(&mut batch);
            tasks.puppet(task).run(batch)?;
        }
        if self.taken != self.queues.taken {
            return Err(other());
        }
        self.queues.write_requests(&self.rings, &self.requests)
    }

    /// Makes some requests, and sorts out what has completed, if anything is to be forgotten.
    fn make(
        &mut self,
        requests: Vec<[u8; 64]>,
        (puppet, ring): (&mut Bare, u32),
        forgets: bool,
    ) -> Result<()> {
        let Queues { setup, sq_entries, cq_entries, places, .. } = *self.queues;
        let most = sq_entries.min(cq_entries).min(AT_ONCE);
        let size = self.queues.request_size();
        for some in requests.chunks(most as usize) {
            for bytes in some {
                let place = self.taken & (sq_entries - 1);
                let mut request = vec![0; size];
                request[..64].copy_from_slice(bytes);
                let at = place as usize * size;
                self.requests.write(at, &request).map_err(kernel("write"))?;
                if !setup.contains(Setup::NO_SQARRAY) {
                    self.set(places.array + 4 * place, place)?;
                }
                self.taken = self.taken.wrapping_add(1);
            }
            self.set(places.sq_tail, self.taken)?;
            if forgets {
                self.set(places.cq_head, self.given)?;
            }
            let mut batch = Batch::new();
            let flags = if forgets { ENTER_GETEVENTS } else { 0 };
            let args = [ring.into(), (some.len() as u32).into(), 0.into(), flags.into()];
            batch.call(libc::SYS_io_uring_enter, args);
            puppet.run(batch)?;
            if self.number(places.sq_head)? != self.taken {
                return Err(other());
            }
            if forgets {
                self.look()?;
            }
        }
        Ok(())
    }

    /// Sorts out what has completed.
    fn look(&mut self) -> Result<()> {
        let Queues { cq_entries, places, .. } = *self.queues;
        let size = self.queues.completion_size();
        let tail = self.number(places.cq_tail)?;
        while self.given != tail {
            let place = (self.given & (cq_entries - 1)) as usize;
            let mut bytes = vec![0; size];
            let at = places.completions as usize + size * place;
            self.rings.read(at, &mut bytes).map_err(kernel("read"))?;
            let (data, rest) = bytes.split_first_chunk().expect("it has sixteen bytes");
            let data = u64::from_ne_bytes(*data);
            let result = i32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]);
            let flags = u32::from_ne_bytes([rest[4], rest[5], rest[6], rest[7]]);
            match self.told.iter().position(|poll| poll.knows(data, result, flags)) {
                Some(known) => drop(self.told.swap_remove(known)),
                None => self.news.push(bytes),
            }
            self.given = self.given.wrapping_add(1);
        }
        Ok(())
    }

    /// Each poll that was to tell again has, or something counts in its place.
    fn catch_up(&mut self, puppet: &mut Bare, own: u32) -> Result<()> {
        let Queues { setup, cq_entries, places, .. } = *self.queues;
        // No more than there are places: they are told of in the end, if there is news of all.
        let count = self.told.len() as u32;
        if count == 0 {
            return Ok(());
        }
        self.set(places.cq_head, self.given)?;
        send(self.ring, (count, cq_entries), || ask(puppet, own, setup))?;
        self.given = self.given.wrapping_add(count);
        Ok(())
    }

    /// Puts everything into memory, with what is new.
    fn tell(&self) -> Result<()> {
        let Queues { given, cq_entries, places, .. } = *self.queues;
        let reached = given.wrapping_add(self.news.len() as u32);
        if (self.given, self.number(places.cq_tail)?) != (reached, reached) {
            return Err(other());
        }
        self.queues.write(&self.rings, &self.requests)?;
        let unread = given.wrapping_sub(self.number(places.cq_head)?);
        if unread as usize + self.news.len() > cq_entries as usize {
            return Err(other());
        }
        let size = self.queues.completion_size();
        for (number, bytes) in self.news.iter().enumerate() {
            let place = given.wrapping_add(number as u32) & (cq_entries - 1);
            let at = places.completions as usize + size * place as usize;
            self.rings.write(at, bytes).map_err(kernel("write"))?;
        }
        self.set(places.cq_tail, reached)?;
        self.set(places.sq_head, self.taken)
    }

    fn number(&self, at: u32) -> Result<u32> {
        self.rings.number(at as usize).map_err(kernel("read"))
    }

    fn set(&self, at: u32, number: u32) -> Result<()> {
        self.rings.write(at as usize, &number.to_ne_bytes()).map_err(kernel("write"))
    }
}
