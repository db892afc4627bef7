//! Rings of io_uring (`io_uring(7)`).
//!
//! Kernel object: `struct io_ring_ctx`: memory that the program has mapped, with requests and two
//! queues; how many requests were taken from one and completions put into the other, which the
//! kernel counts for itself; who may submit; requests that wait for something to happen.
//! Truth from: the kernel's own structures, by BPF; the memory, by mapping it.
//! Image: `io_uring_file_entry` in `files.img`, which only dormouse has; mappings of the memory
//! in `mm-PID.img`.
//! Create: by a process: the one that submits, if only one does, or one whose requests wait, else by one that ends at once.
//! It has the ring take as many requests, which do nothing, as were taken: 0.1 µs each, about. Then
//! the memory gets its contents.
//! Fill: what waits is asked for again by the tasks that did ([`Resuming`]), when they have their credentials and all
//! else is in its place.
//! Refused: what [`More`] lists; requests that cannot be made again ([`Request::of`]) and do not
//! complete soon; more than [`MOST_TAKEN`] requests or completions in all rings together; rings in memory that the
//! program has provided, with a thread that submits, or that poll devices; those without room for what
//! polls may have to tell at once. Files registered with tags, for a part of the places, or that nobody has open.
//! Not preserved: the order among requests that wait for the same file; that an epoll which watches the ring by its
//! edges was told of completions that nobody has read, if polls have to tell again; where the kernel goes on looking
//! for free places of registered files.
//! Kernel needed: 6.17, BTF and BPF (`CAP_BPF`, `CAP_PERFMON`) for the dump.
//! Scenarios: `io_uring`, `refusals::io_uring`.

mod inside;
mod making;
mod registered;
mod request;
mod resuming;
mod survey;
mod waiting;

use std::os::fd::{AsFd, OwnedFd};

use dormouse_image::proto::files::io_uring::IoUringFileEntry;
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_image::{ImageDir, ImageName};
use dormouse_kernel::io_uring::{MOST_COMPLETIONS, MOST_REQUESTS, OFF_SQES, Places, Region, Setup};
use dormouse_kernel::{Addr, NsPid, PAGE_SIZE};
use dormouse_puppet::Bare;

use super::source::SourcePart;
use super::stand_in::StandIn;
use super::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, ImageSink, ImageSource,
    Inode, Probe, Stage, Status, Use,
};
use crate::corrupt::corrupt;
use crate::{Error, Result};
use inside::{Found, More};
use registered::Registered;
use request::Request;
pub use resuming::{Resuming, RingTasks};
pub use survey::{Completing, RingSurvey};

/// What users and logs call it.
const NAME: &str = "io_uring";
/// More requests than this take minutes to be made again.
const MOST_TAKEN: u64 = 1 << 30;

/// Ways to set a ring up that are kept.
const KEPT: Setup = Setup::CQSIZE
    .union(Setup::CLAMP)
    .union(Setup::ATTACH_WQ)
    .union(Setup::R_DISABLED)
    .union(Setup::SUBMIT_ALL)
    .union(Setup::COOP_TASKRUN)
    .union(Setup::TASKRUN_FLAG)
    .union(Setup::SQE128)
    .union(Setup::CQE32)
    .union(Setup::SINGLE_ISSUER)
    .union(Setup::DEFER_TASKRUN)
    .union(Setup::NO_SQARRAY)
    .union(Setup::CQE_MIXED);

/// A ring.
#[derive(Debug, PartialEq, Eq)]
pub struct IoUring {
    status: Status,
    queues: Queues,
    /// The task that submits, if only one does.
    submitter: Option<NsPid>,
    /// What waits for something to happen.
    requests: Vec<Request>,
    registered: Option<Registered>,
}

/// Its queues.
#[derive(Debug, PartialEq, Eq)]
struct Queues {
    setup: Setup,
    sq_entries: u32,
    cq_entries: u32,
    taken: u32,
    given: u32,
    places: Places,
    /// Bytes that are mapped of either.
    rings_len: usize,
    requests_len: usize,
    /// Without zeros at the end.
    rings: Vec<u8>,
    requests: Vec<u8>,
}

impl Queues {
    /// In bytes.
    fn request_size(&self) -> usize {
        request_size(self.setup)
    }

    /// In bytes.
    fn completion_size(&self) -> usize {
        completion_size(self.setup)
    }

    /// How many requests have to be made again, or completions sent, until it is as far.
    fn used(&self) -> u64 {
        self.taken.max(self.given).into()
    }

    /// What of the requests that wait cannot be. Polls may have to tell again of what is there.
    fn contradiction(
        &self,
        waiting: &[Request],
        registered: Option<&Registered>,
    ) -> Option<&'static str> {
        let told = waiting.iter().filter(|request| request.told != 0).count();
        let unread = self.given.wrapping_sub(number(&self.rings, self.places.cq_head));
        if waiting.len() > self.taken as usize || told > self.given as usize {
            Some("more requests wait than it has counted")
        } else if unread as usize + told > self.cq_entries as usize {
            Some("its queue has no room for what polls may have to tell")
        } else if told > 0 && registered.is_some_and(|it| it.event.is_some()) {
            Some("an eventfd would count what polls have to tell again")
        } else {
            None
        }
    }

    /// Where it is told how many completions were read, if it is mapped there.
    fn head(&self, at: Addr) -> Addr {
        at.checked_add(self.places.cq_head.into()).expect("it is in the ring")
    }

    /// How much memory the kernel takes for both (`rings_size` in `io_uring/io_uring.c`).
    fn lens(setup: Setup, sq_entries: u32, cq_entries: u32, places: &Places) -> (usize, usize) {
        let end = if setup.contains(Setup::NO_SQARRAY) {
            places.completions as usize + completion_size(setup) * cq_entries as usize
        } else {
            places.array as usize + 4 * sq_entries as usize
        };
        let whole = |len: usize| len.next_multiple_of(PAGE_SIZE as usize);
        (whole(end), whole(request_size(setup) * sq_entries as usize))
    }
}

/// How long a request is, in bytes.
fn request_size(setup: Setup) -> usize {
    if setup.contains(Setup::SQE128) { 128 } else { 64 }
}

/// The same of a completion.
fn completion_size(setup: Setup) -> usize {
    if setup.contains(Setup::CQE32) { 32 } else { 16 }
}

/// A number in the memory of the queues, which is zero behind what is kept of that.
fn number(rings: &[u8], at: u32) -> u32 {
    let bytes = rings.get(at as usize..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// Why one cannot be kept, and what a user can do about it.
type Problem = (&'static str, &'static str);

fn refused(probe: &Probe, (reason, hint): Problem) -> Error {
    let detail = probe.link.clone().into();
    Error::Unsupported { object: "an io_uring", detail, reason, hint }
}

fn unreadable(probe: &Probe) -> Error {
    let reason = "its state is in the kernel's memory, which cannot be read here";
    let hint = "run dormouse with CAP_BPF and CAP_PERFMON, or as root, on Linux 6.17 or later";
    refused(probe, (reason, hint))
}

impl More {
    fn problem(self) -> Problem {
        const WITHOUT: &str = "have the program do without, many have a setting for it";
        match self {
            Self::Overflow => (
                "completions wait that its queue has no room for",
                "dump again when the program has read its completions",
            ),
            Self::Tags => ("files are registered with it that have tags", WITHOUT),
            Self::Ranges => ("only some places are free for files", WITHOUT),
            Self::Buffers => ("buffers are registered with it", WITHOUT),
            Self::BufferGroups => ("buffers are provided to it", WITHOUT),
            Self::Restrictions => ("what may be asked of it is restricted", WITHOUT),
            Self::Personalities => ("credentials are registered with it", WITHOUT),
            Self::Workers => ("the number of its workers is limited", WITHOUT),
            Self::Clock => ("it waits by another clock", WITHOUT),
            Self::BusyPoll => ("it polls network devices", WITHOUT),
            Self::Region => ("memory is registered with it", WITHOUT),
            Self::Futexes => ("a request waits for a futex", WITHOUT),
            Self::Children => ("a request waits for a child", WITHOUT),
            Self::Commands => ("a command to a driver is in flight", WITHOUT),
            Self::Chains => (
                "requests are in flight that are linked or drained",
                "dump again when the program has none of these requests in flight",
            ),
        }
    }
}

/// What of its setup is not kept.
fn unkept(setup: Setup) -> Option<Problem> {
    let without = "have the program set its ring up without, many have a setting for it";
    let unkept = setup - KEPT;
    let problem = if unkept.is_empty() {
        return None;
    } else if unkept.intersects(Setup::SQPOLL | Setup::SQ_AFF) {
        ("a thread of the kernel submits (IORING_SETUP_SQPOLL)", without)
    } else if unkept.intersects(Setup::IOPOLL | Setup::HYBRID_IOPOLL) {
        ("devices are polled for its completions (IORING_SETUP_IOPOLL)", without)
    } else if unkept.intersects(Setup::NO_MMAP | Setup::REGISTERED_FD_ONLY) {
        ("it is in memory that the program has provided (IORING_SETUP_NO_MMAP)", without)
    } else {
        ("it was set up in a way that is unknown here", "a newer version of dormouse may know it")
    };
    Some(problem)
}

/// What is in memory, without zeros at the end.
fn contents(region: &Region, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    region.read(0, &mut bytes).map_err(Error::kernel("read", NAME))?;
    bytes.truncate(bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1));
    Ok(bytes)
}

/// What all rings read so far have [used](Queues::used).
struct Used(u64);

impl SourcePart for Used {
    fn open(_: &ImageDir) -> Result<Self> {
        Ok(Self(0))
    }

    fn end(self) -> Result<()> {
        Ok(())
    }
}

impl FileKind for IoUring {
    const NAME: &'static str = NAME;
    const TYPE: FdType = FdType::IoUring;
    const RANKS: &'static [FillRank] = &[];

    fn claims(probe: &Probe) -> bool {
        RingSurvey::concerns(probe)
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let status = Status::collect(cx, probe)?;
        let ring = probe.duplicate()?;
        let found = cx.part::<RingSurvey>().of(probe, &ring)?;
        let registered = cx.part::<RingSurvey>().registered(cx, probe, &found)?;
        let Found { at: _, setup, sq_entries, cq_entries, taken, given, places, .. } = found;
        let Found { rings_len, requests_len, completing, submitter, .. } = found;
        if completing > 0 {
            let reason = "requests are in flight, and do not complete";
            let hint = "dump again when the program has none";
            return Err(refused(probe, (reason, hint)));
        }
        let submitter = match submitter {
            None => None,
            Some(pid) => {
                let pid = cx.part::<RingSurvey>().task(cx, pid);
                let reason = "only one task may submit, and it is not part of the checkpoint";
                let hint = "checkpoint the tree that it belongs to as well, if it lives";
                Some(pid.ok_or_else(|| refused(probe, (reason, hint)))?)
            }
        };
        let waiting = cx.part::<RingSurvey>().requests(cx, (probe, &ring), &found.waiting)?;
        let map = |offset, len| {
            Region::map(ring.as_fd(), offset, len).map_err(Error::kernel("mmap", &probe.link))
        };
        let rings = contents(&map(0, rings_len)?, rings_len)?;
        let requests = contents(&map(OFF_SQES, requests_len)?, requests_len)?;
        let number = |at| number(&rings, at);
        let lens = Queues::lens(setup, sq_entries, cq_entries, &places);
        if (number(places.sq_head), number(places.cq_tail)) != (taken, given)
            || lens != (rings_len, requests_len)
        {
            let reason = "the program has written over what the kernel writes there";
            return Err(refused(probe, (reason, "restart the program")));
        }
        let queues = Queues {
            setup,
            sq_entries,
            cq_entries,
            taken,
            given,
            places,
            rings_len,
            requests_len,
            rings,
            requests,
        };
        if let Some(reason) = queues.contradiction(&waiting, registered.as_ref()) {
            return Err(refused(probe, (reason, "dump again when it has less to tell")));
        }
        let mut survey = cx.part::<RingSurvey>();
        survey.used += queues.used();
        if survey.used > MOST_TAKEN {
            let reason = "more than 1,073,741,824 requests were made through rings, and all of \
                          them would have to be made again";
            return Err(refused(probe, (reason, "restart the program")));
        }
        Ok(Self { status, queues, submitter, requests: waiting, registered })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { status, queues, submitter, requests: waiting, registered } = self;
        let Queues { setup, sq_entries, cq_entries, taken, given, places, .. } = queues;
        let Queues { rings_len: _, requests_len: _, rings, requests, .. } = queues;
        let Places { sq_head, sq_tail, sq_flags, array, cq_head, cq_tail, completions } = *places;
        let (flags, fown) = status.encode();
        let uring = IoUringFileEntry {
            id: id.as_raw(),
            flags,
            fown,
            setup: setup.bits(),
            sq_entries: *sq_entries,
            cq_entries: *cq_entries,
            taken: *taken,
            given: *given,
            places: vec![sq_head, sq_tail, sq_flags, array, cq_head, cq_tail, completions],
            rings: rings.clone(),
            requests: requests.clone(),
            submitter: submitter.map(|pid| pid.as_raw().unsigned_abs()),
            waiting: waiting.iter().map(Request::encode).collect(),
            registered: registered.as_ref().map(Registered::encode),
        };
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            uring: Some(Box::new(uring)),
            ..FileEntry::default()
        };
        images.put(id, entry);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, images: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(uring) = entry.uring.as_deref() else {
            return Err(wrong("it has no io_uring_file_entry"));
        };
        let IoUringFileEntry { id: own_id, flags, fown, setup, sq_entries, .. } = uring;
        let IoUringFileEntry { cq_entries, taken, given, places, .. } = uring;
        let IoUringFileEntry { rings, requests, submitter, waiting, registered, .. } = uring;
        if *own_id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        let status = Status::decode(Self::NAME, id, *flags, fown)?;
        let setup = Setup::from_bits_retain(*setup);
        if !KEPT.contains(setup) {
            return Err(wrong("it was set up in a way that is not kept"));
        }
        let [sq_head, sq_tail, sq_flags, array, cq_head, cq_tail, completions] = **places else {
            return Err(wrong("the places in its memory are not seven"));
        };
        let places = Places { sq_head, sq_tail, sq_flags, array, cq_head, cq_tail, completions };
        let fits = |entries: u32, most| entries.is_power_of_two() && entries <= most;
        if !fits(*sq_entries, MOST_REQUESTS)
            || !fits(*cq_entries, MOST_COMPLETIONS)
            || cq_entries < sq_entries
        {
            return Err(wrong("its queues have sizes that cannot be"));
        }
        // The words come first, then the completions and the array.
        let words = [sq_head, sq_tail, sq_flags, cq_head, cq_tail];
        let behind = completions.saturating_add(completion_size(setup) as u32 * cq_entries);
        if words.iter().any(|word| word.saturating_add(4) > completions)
            || completions > PAGE_SIZE as u32
            || setup.contains(Setup::NO_SQARRAY) != (array == 0)
            || (array != 0 && !(behind..=behind + PAGE_SIZE as u32).contains(&array))
        {
            return Err(wrong("its memory has a form that cannot be"));
        }
        let (rings_len, requests_len) = Queues::lens(setup, *sq_entries, *cq_entries, &places);
        if rings.len() > rings_len || requests.len() > requests_len {
            return Err(wrong("its memory is longer than it can be"));
        }
        let used = images.part::<Used>()?;
        used.0 += u64::from(*taken.max(given));
        if used.0 > MOST_TAKEN {
            return Err(wrong("more requests were made than can be made again"));
        }
        let number = |at| number(rings, at);
        if (number(sq_head), number(cq_tail)) != (*taken, *given) {
            return Err(wrong("its memory has other counts"));
        }
        if setup.contains(Setup::R_DISABLED) && (*taken, *given) != (0, 0) {
            return Err(wrong("it is disabled, and was used"));
        }
        let submitter = match *submitter {
            None => None,
            Some(pid) => {
                let pid = i32::try_from(pid).ok().and_then(NsPid::from_raw);
                Some(pid.ok_or_else(|| wrong("the task that submits is none"))?)
            }
        };
        let single = setup.contains(Setup::SINGLE_ISSUER) && !setup.contains(Setup::R_DISABLED);
        if single != submitter.is_some() {
            return Err(wrong("who submits does not fit how it was set up"));
        }
        let queues = Queues {
            setup,
            sq_entries: *sq_entries,
            cq_entries: *cq_entries,
            taken: *taken,
            given: *given,
            places,
            rings_len,
            requests_len,
            rings: rings.clone(),
            requests: requests.clone(),
        };
        let place = (ImageName::Files, Self::NAME, id.as_raw().into());
        let request = |entry| {
            let refer = |file| images.file_ref(file, Use::Description, place);
            Request::decode(entry, refer).ok_or_else(|| wrong("a request makes no sense"))
        };
        let requests = waiting.iter().map(request).collect::<Result<Vec<_>>>()?;
        let is_strange = |request: &Request| submitter.is_some_and(|only| only != request.task);
        if requests.iter().any(is_strange) {
            return Err(wrong("a request is of a task that may not submit"));
        }
        let registered = match registered {
            None => None,
            Some(entry) => {
                let refer = |file| images.file_ref(file, Use::Description, place);
                let read = Registered::decode(entry, refer)
                    .filter(|it| submitter.is_none_or(|only| only == it.task));
                Some(read.ok_or_else(|| wrong("its registered files make no sense"))?)
            }
        };
        if let Some(reason) = queues.contradiction(&requests, registered.as_ref()) {
            return Err(wrong(reason));
        }
        Ok(Self { status, queues, submitter, requests, registered })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        if self.maker().is_some() { Stage::Living } else { Stage::Early }
    }

    fn create(&self, id: FileId, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let ring = match cx.take_made(id) {
            Some(made) => made,
            None => self.queues.make(StandIn::new(None)?.bare()?, self.behind())?,
        };
        self.status.apply(Self::NAME, ring.as_fd())?;
        Ok(ring)
    }

    fn inode(&self) -> Option<&dyn Inode> {
        None
    }

    fn fill(_: FillRank, _: &[Created<'_, Self>], _: &FillCx<'_>) -> Result<()> {
        Ok(())
    }
}

impl IoUring {
    /// The task that has to make it, if it cannot be any.
    pub(super) fn maker(&self) -> Option<NsPid> {
        self.submitter.or_else(|| Some(self.requests.first()?.task))
    }

    /// The tasks that have to make its requests.
    pub(super) fn tasks(&self) -> impl Iterator<Item = NsPid> {
        let registered = self.registered.iter().map(|registered| registered.task);
        self.maker()
            .into_iter()
            .chain(self.requests.iter().map(|request| request.task))
            .chain(registered)
    }

    /// Has that task make it, which is a puppet with hardly a descriptor yet.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn make(&self, puppet: &mut Bare) -> Result<OwnedFd> {
        self.queues.make(puppet, self.behind())
    }
}
