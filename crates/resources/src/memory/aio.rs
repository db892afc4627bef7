//! AIO contexts (`io_setup(2)`), which are known by the address of their ring.
//!
//! **Kernel object**: `struct kioctx`; the ring is a mapping of a file that nobody can open.
//!
//! **Truth from**: maps (`/[aio] (deleted)`), and the ring itself: its header and the completions
//! in it. Whether requests are in flight the engine learns from the kernel's own memory.
//!
//! **Image**: an `aio_ring_entry` in `mm-PID.img`; the ring's pages are stored with the private
//! memory of the process.
//!
//! **Create**: until all memory is filled the ring's contents are private memory in its place.
//! Then the process makes a context wherever the kernel puts it. As many requests as it takes
//! (to read nothing from an empty memfd; they complete at once) bring the kernel's own tail to where
//! it was, with so many completions unread as there were; on one processor, as the kernel hands the
//! ring's places out to processors, and one can have as many as all together. The contents are
//! copied, and `mremap(2)` takes the ring to its place, by which the context gets its name.
//!
//! **Not preserved**: `ring->id`, the kernel's index of the context, and which processor free places
//! are at hand for. Polls in flight are refused, and so is a child's mapping of a ring of its parent.
//!
//! **Scenarios**: `memory::{aio, aio_full}`, `refusals::aio_poll`.

use std::collections::BTreeMap;

use dormouse_image::proto::mm::AioRingEntry;
use dormouse_kernel::sched;
use dormouse_kernel::{Addr, AddrRange, HostPid, PAGE_SIZE, remote_memory};
use dormouse_puppet::{Bare, Batch, Data};

use super::contents::Contents;
use super::error::{Error, MappingProblem, Result};
use super::saved::PagesFiles;
use super::vma::{Backing, Vma};

/// `struct io_event`, and `struct aio_ring` before the first of them, in bytes.
const EVENT: u64 = 32;

/// What the kernel writes to the beginning of a ring (`struct aio_ring` in `fs/aio.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AioHeader {
    /// For how many events there is a place.
    pub events: u32,
    /// The place of the first that is unread.
    pub head: u32,
    /// The place for the next.
    pub tail: u32,
}

impl AioHeader {
    const LEN: usize = EVENT as usize;
    /// `magic`, `compat_features`, `incompat_features` and `header_length`.
    const MARKS: [u32; 4] = [0xa10a_10a1, 1, 0, EVENT as u32];

    /// Reads that of a ring of a stopped process. `None` if it makes no sense: programs can write
    /// to it.
    ///
    /// # Errors
    ///
    /// Memory cannot be read.
    pub fn read(task: HostPid, ring: AddrRange) -> Result<Option<Self>> {
        let mut bytes = [0; Self::LEN];
        remote_memory::read_exact(task, ring.start(), &mut bytes)?;
        Ok(Self::parse(&bytes).filter(|header| header.fits(ring)))
    }

    fn parse(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let (words, _) = bytes.as_chunks::<4>();
        let word = |number: usize| u32::from_ne_bytes(words[number]);
        let marks = [4, 5, 6, 7].map(word);
        let header = Self { events: word(1), head: word(2), tail: word(3) };
        (marks == Self::MARKS).then_some(header)
    }

    fn fits(self, ring: AddrRange) -> bool {
        let Self { events, head, tail } = self;
        u64::from(events) == ring.len() / EVENT - 1 && head < events && tail < events
    }

    /// Whether so many events can be unread, where a context hands its places out by batches of so
    /// many (`req_batch` of its `struct kioctx`). If not, the program has written to the header.
    #[must_use]
    pub fn is_possible(self, batch: u32) -> bool {
        // One place is always left between the last and the first.
        let places = self.events.saturating_sub(1);
        self.unread() <= places - places % batch.max(1)
    }

    /// How many events are unread.
    fn unread(self) -> u32 {
        let Self { events, head, tail } = self;
        if head <= tail { tail - head } else { events - head + tail }
    }
}

/// The least and the most requests to ask for to get a ring of `len` bytes. The kernel makes one
/// for twice as many and two (`ioctx_alloc`, `aio_setup_ring`), and fills up the last page. That
/// it makes one for eight times as many as there may be processors, at least, it sees to itself.
fn requests_for(len: u64) -> (u64, u64) {
    let of = |len: u64| (len / EVENT).saturating_sub(3) / 2;
    (of(len - PAGE_SIZE) + 1, of(len))
}

/// Where the ring's mapping has no number of requests yet.
pub(super) const UNKNOWN: u32 = 0;

/// The entries for the rings among mappings.
pub(super) fn encode(vmas: &[Vma]) -> Vec<AioRingEntry> {
    let ring = |vma: &Vma| match vma.backing {
        Backing::AioRing { requests } => Some(AioRingEntry {
            id: vma.range.start().as_raw(),
            nr_req: requests,
            ring_len: u32::try_from(vma.range.len()).expect("the kernel makes none as long"),
        }),
        _ => None,
    };
    vmas.iter().filter_map(ring).collect()
}

/// Gives the rings among mappings what the entries say. On failure also says where.
pub(super) fn decode(
    entries: &[AioRingEntry],
    vmas: &mut [Vma],
) -> std::result::Result<(), (u64, MappingProblem)> {
    let mut entries: BTreeMap<u64, &AioRingEntry> =
        entries.iter().map(|entry| (entry.id, entry)).collect();
    for vma in vmas {
        let Backing::AioRing { requests } = &mut vma.backing else { continue };
        let at = vma.range.start().as_raw();
        let entry = entries.remove(&at).filter(|entry| {
            let (_, most) = requests_for(vma.range.len());
            u64::from(entry.ring_len) == vma.range.len()
                && (1..=most).contains(&u64::from(entry.nr_req))
        });
        *requests = entry.ok_or((at, MappingProblem::AioRing))?.nr_req;
    }
    match entries.first_key_value() {
        Some((&at, _)) => Err((at, MappingProblem::AioRing)),
        None => Ok(()),
    }
}

/// A context that is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AioContext {
    ring: AddrRange,
    requests: u32,
    header: AioHeader,
}

impl AioContext {
    /// Those of the rings among mappings, whose pages are in `contents`. On failure also says where.
    pub(super) fn all(
        vmas: &[Vma],
        contents: &Contents,
        files: &PagesFiles,
    ) -> Result<std::result::Result<Vec<Self>, Addr>> {
        let mut contexts = Vec::new();
        for vma in vmas {
            let Backing::AioRing { requests } = vma.backing else { continue };
            let ring = vma.range;
            let page = AddrRange::with_len(ring.start(), PAGE_SIZE).expect("it is mapped");
            let mut bytes = [0; AioHeader::LEN];
            if let Some(run) = contents.within(&[page]).runs().first() {
                files.read(run.source, &mut bytes)?;
            }
            match AioHeader::parse(&bytes).filter(|header| header.fits(ring)) {
                Some(header) => contexts.push(Self { ring, requests, header }),
                None => return Ok(Err(ring.start())),
            }
        }
        Ok(Ok(contexts))
    }

    /// Makes the context, with what is in its place in the process.
    pub(super) fn create(self, puppet: &mut Bare) -> Result<()> {
        let Self { ring, requests, header } = self;
        let AioHeader { head, tail, .. } = header;
        // Where there are fewer processors the kernel does not round up as much.
        let (least, _) = requests_for(ring.len());
        let mut batch = Batch::new();
        let made = batch.out(8);
        batch.call(libc::SYS_io_setup, [u64::from(requests).max(least).into(), (&made).into()]);
        let memfd = (head, tail) != (0, 0);
        let memfd = memfd.then(|| {
            let name = batch.data(b"aio\0");
            batch.call(libc::SYS_memfd_create, [name.into(), libc::MFD_CLOEXEC.into()])
        });
        let replies = puppet.run(batch)?;
        let made = u64::from_ne_bytes(*replies.array(&made));
        let fd = memfd.map(|memfd| replies.value(&memfd) as u32);
        let made = AddrRange::with_len(Addr::from_raw(made), ring.len());
        let fail = Error::AioRing { at: ring.start() };
        let Some(made) = made else { return Err(fail) };
        if AioHeader::read(puppet.tid(), made)?.is_none() {
            return Err(fail);
        }
        if let Some(fd) = fd {
            let processors = sched::affinity(puppet.tid())?;
            sched::set_affinity(puppet.tid(), &processors.first())?;
            for (count, read_up_to) in [(head / 2, head / 2), (head - head / 2, head)] {
                complete(puppet, made.start(), fd, count)?;
                let at = made.start().checked_add(8).expect("it is in the ring");
                remote_memory::write_exact(puppet.tid(), at, &read_up_to.to_ne_bytes())?;
            }
            complete(puppet, made.start(), fd, header.unread())?;
            if AioHeader::read(puppet.tid(), made)? != Some(header) {
                return Err(fail);
            }
            sched::set_affinity(puppet.tid(), &processors)?;
        }
        copy(puppet.tid(), ring, made)?;
        let mut batch = Batch::new();
        if let Some(fd) = fd {
            batch.call(libc::SYS_close, [fd.into()]);
        }
        let (from, len) = (made.start(), ring.len());
        let how = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        let to = ring.start();
        batch.call(libc::SYS_mremap, [from.into(), len.into(), len.into(), how.into(), to.into()]);
        puppet.run(batch)?;
        Ok(())
    }
}

/// Has `count` requests complete.
fn complete(puppet: &mut Bare, context: Addr, fd: u32, count: u32) -> Result<()> {
    const AT_ONCE: u32 = 256;
    const CALLS: u32 = 128;
    let mut left = count;
    while left > 0 {
        let mut batch = Batch::new();
        let pointers = pointers(&mut batch, fd, left.min(AT_ONCE));
        for _ in 0..CALLS {
            let some = left.min(AT_ONCE);
            if some == 0 {
                break;
            }
            left -= some;
            batch.call(libc::SYS_io_submit, [context.into(), some.into(), pointers.into()]);
        }
        puppet.run(batch)?;
    }
    Ok(())
}

/// So many pointers to a request to read no bytes.
fn pointers(batch: &mut Batch, fd: u32, count: u32) -> Data {
    // `struct iocb`: `aio_lio_opcode` 0 reads.
    const FD: usize = 20;
    let mut request = [0; 64];
    request[FD..FD + 4].copy_from_slice(&fd.to_ne_bytes());
    let request = batch.data(&request);
    let count = count as usize;
    let pointers = batch.data(&vec![0; 8 * count]);
    for number in 0..count {
        batch.point(pointers, 8 * number, request);
    }
    pointers
}

/// Copies all but the index, which the kernel looks a context up by.
fn copy(task: HostPid, from: AddrRange, to: AddrRange) -> Result<()> {
    const INDEX: u64 = 4;
    const AT_ONCE: u64 = 1 << 20;
    let mut buffer = vec![0; from.len().min(AT_ONCE) as usize];
    let mut done = INDEX;
    while done < from.len() {
        let some = (from.len() - done).min(AT_ONCE) as usize;
        let at = |range: AddrRange| range.start().checked_add(done).expect("it is in the ring");
        remote_memory::read_exact(task, at(from), &mut buffer[..some])?;
        remote_memory::write_exact(task, at(to), &buffer[..some])?;
        done += some as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn ring(at: u64, pages: u64, requests: u32) -> Vma {
        let range = samples::pages(at / PAGE_SIZE, pages);
        Vma { backing: Backing::AioRing { requests }, ..samples::anonymous(range) }
    }

    #[test]
    fn as_many_requests_as_fit() {
        assert_eq!(requests_for(PAGE_SIZE), (1, 62));
        assert_eq!(requests_for(2 * PAGE_SIZE), (63, 126));
    }

    #[test]
    fn rings_and_entries_belong_together() {
        let vmas = [ring(0x10_0000, 1, 8), ring(0x20_0000, 2, 100)];
        let entries = encode(&vmas);
        let mut blank = [ring(0x10_0000, 1, UNKNOWN), ring(0x20_0000, 2, UNKNOWN)];
        assert_eq!(decode(&entries, &mut blank), Ok(()));
        assert_eq!(blank, vmas);
        let problem = MappingProblem::AioRing;
        assert_eq!(decode(&entries[..1], &mut blank), Err((0x20_0000, problem)));
        assert_eq!(decode(&entries, &mut blank[..1]), Err((0x20_0000, problem)));
        for change in [
            |entry: &mut AioRingEntry| entry.nr_req = 0,
            |entry: &mut AioRingEntry| entry.nr_req = 63,
            |entry: &mut AioRingEntry| entry.ring_len += 1,
        ] {
            let mut entries = entries.clone();
            change(&mut entries[0]);
            assert_eq!(decode(&entries, &mut blank), Err((0x10_0000, problem)));
        }
    }

    #[test]
    fn a_header_that_makes_no_sense_is_none() {
        let words = |head: u32, tail: u32| -> [u8; 32] {
            let words = [7, 127, head, tail, 0xa10a_10a1, 1, 0, 32];
            let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
            bytes.try_into().unwrap()
        };
        let page = samples::pages(1, 1);
        let read = |bytes: [u8; 32]| AioHeader::parse(&bytes).filter(|header| header.fits(page));
        let header = AioHeader { events: 127, head: 120, tail: 3 };
        assert_eq!(read(words(120, 3)), Some(header));
        assert_eq!(header.unread(), 10);
        assert!(AioHeader { events: 127, head: 7, tail: 0 }.is_possible(15));
        assert!(!AioHeader { events: 127, head: 6, tail: 0 }.is_possible(15));
        assert!(AioHeader { events: 127, head: 1, tail: 0 }.is_possible(1));
        assert_eq!(read(words(127, 3)), None);
        assert_eq!(read(words(0, 127)), None);
        let mut other = words(0, 0);
        other[16] = 0;
        assert_eq!(read(other), None);
        let files = PagesFiles::new();
        let none = AioContext::all(&[ring(0x1000, 1, 1)], &Contents::default(), &files);
        assert_eq!(none.unwrap(), Err(Addr::from_raw(0x1000)));
    }
}
