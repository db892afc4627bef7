//! A ring in the kernel's own memory.
//!
//! Truth from: `include/linux/io_uring_types.h`, `io_uring/io_uring.c`.

use std::os::fd::BorrowedFd;

use dormouse_kernel::PAGE_SIZE;
use dormouse_kernel::io_uring::{Places, Setup};
use epoll_interest::kernel_memory::{
    Address, Btf, BtfError, KernelMemory, Numbers, OpenError, OpenFiles, ReadError,
};

use super::waiting::{self, Waiting, number};
use crate::steady::steady;

/// Reads rings.
pub(super) struct Inside {
    memory: KernelMemory,
    layout: Layout,
}

/// What is found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The ring itself.
    pub(super) at: Address,
    pub(super) setup: Setup,
    pub(super) sq_entries: u32,
    pub(super) cq_entries: u32,
    /// Requests taken and completions given.
    pub(super) taken: u32,
    pub(super) given: u32,
    pub(super) places: Places,
    /// Bytes of both queues, and of requests.
    pub(super) rings_len: usize,
    pub(super) requests_len: usize,
    /// Requests that something works on, or has.
    pub(super) completing: u32,
    /// Those that wait for something to happen.
    pub(super) waiting: Vec<Waiting>,
    /// The `struct file`, or zero, in each place for registered files.
    pub(super) files: Vec<Address>,
    /// The `struct eventfd_ctx` that hears of completions, and whether only of those that come later.
    pub(super) event: Option<(Address, bool)>,
    /// Those tasks that use it, as far as they have a number here.
    pub(super) users: Vec<i32>,
    /// What it has that is not carried over, the first of it.
    pub(super) more: Option<More>,
    /// The task that submits, if only one does.
    pub(super) submitter: Option<i32>,
}

/// What a ring can have besides its queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum More {
    Overflow,
    Tags,
    Ranges,
    Buffers,
    BufferGroups,
    Restrictions,
    Personalities,
    Workers,
    Clock,
    BusyPoll,
    Region,
    Futexes,
    Children,
    Commands,
    Chains,
}

/// More requests than are ever kept.
const MOST: usize = 1 << 20;
/// `IO_URING_NAPI_TRACKING_INACTIVE`.
const NO_BUSY_POLL: u8 = 255;

/// Offsets in bytes.
struct Layout {
    files: OpenFiles,
    size: usize,
    flags: usize,
    rings: usize,
    sq_array: usize,
    sq_head: usize,
    sq_entries: usize,
    cq_tail: usize,
    cq_entries: usize,
    ring_pages: usize,
    request_pages: usize,
    allocated: usize,
    free: usize,
    work: [usize; 2],
    submitter: usize,
    users: usize,
    user_task: usize,
    /// Each is zero, in so many bytes, unless there is such a thing.
    more: Vec<(usize, usize, More)>,
    registered: Registered,
    event: usize,
    event_context: usize,
    event_late: usize,
    event_len: usize,
    /// Each list is empty, likewise.
    lists: [(usize, More); 3],
    /// Of kernels that poll network devices.
    busy_poll: Option<usize>,
    numbers: Numbers,
    places: Places,
    waiting: waiting::Layout,
}

/// Of registered files.
struct Registered {
    len: usize,
    nodes: usize,
    from: usize,
    to: usize,
    tag: usize,
    file: usize,
    node: usize,
}

/// What of a pointer to a file says something else (`FFS_MASK`).
const FILE_FLAGS: u64 = 7;

impl Registered {
    fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let ring = btf.structure("io_ring_ctx")?;
        let table = btf.structure("io_file_table")?.offset("data")?;
        let data = btf.structure("io_rsrc_data")?;
        let node = btf.structure("io_rsrc_node")?;
        let table = ring.offset("file_table")? + table;
        Ok(Self {
            len: table + data.offset("nr")?,
            nodes: table + data.offset("nodes")?,
            from: ring.offset("file_alloc_start")?,
            to: ring.offset("file_alloc_end")?,
            tag: node.offset("tag")?,
            file: node.offset("file_ptr")?,
            node: node.size(),
        })
    }

    /// What is in each place of a ring that has these bytes.
    fn read(
        &self,
        memory: &mut KernelMemory,
        ring: &[u8],
    ) -> Result<(Vec<Address>, Option<More>), ReadError> {
        let len = number(ring, self.len, 4) as usize;
        let (from, to) = (number(ring, self.from, 4), number(ring, self.to, 4));
        if len == 0 {
            return Ok((Vec::new(), None));
        }
        if len > MOST {
            return Err(ReadError::Fault);
        }
        let mut more = ((from, to) != (0, len as u64)).then_some(More::Ranges);
        let nodes = number(ring, self.nodes, 8);
        let places: Vec<_> = (0..len as u64).map(|place| nodes + 8 * place).collect();
        let mut files = Vec::with_capacity(len);
        for node in memory.words(&places)? {
            if node == 0 {
                files.push(0);
                continue;
            }
            let node = memory.bytes(node, self.node)?;
            if number(&node, self.tag, 8) != 0 {
                more = Some(More::Tags);
            }
            files.push(number(&node, self.file, 8) & !FILE_FLAGS);
        }
        Ok((files, more))
    }
}

impl Layout {
    fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let ring = btf.structure("io_ring_ctx")?;
        let rings = btf.structure("io_rings")?;
        let queue = btf.structure("io_uring")?;
        let pages = btf.structure("io_mapped_region")?.offset("nr_pages")?;
        let table = btf.structure("io_rsrc_data")?.offset("nr")?;
        let xarray = btf.structure("xarray")?.offset("xa_head")?;
        let restrictions = ring.offset("restrictions")?;
        let registered = btf.structure("io_restriction")?.offset("registered")?;
        let submitting = btf.structure("io_submit_state")?;
        let (sq, cq) = (rings.offset("sq")?, rings.offset("cq")?);
        let (head, tail) = (queue.offset("head")?, queue.offset("tail")?);
        let user = btf.structure("io_tctx_node")?;
        let event = btf.structure("io_ev_fd")?;
        Ok(Self {
            files: OpenFiles::new(btf)?,
            size: ring.size(),
            flags: ring.offset("flags")?,
            rings: ring.offset("rings")?,
            sq_array: ring.offset("sq_array")?,
            sq_head: ring.offset("cached_sq_head")?,
            sq_entries: ring.offset("sq_entries")?,
            cq_tail: ring.offset("cached_cq_tail")?,
            cq_entries: ring.offset("cq_entries")?,
            ring_pages: ring.offset("ring_region")? + pages,
            request_pages: ring.offset("sq_region")? + pages,
            allocated: ring.offset("nr_req_allocated")?,
            free: ring.offset("submit_state")? + submitting.offset("free_list")?,
            work: [ring.offset("work_llist")?, ring.offset("retry_llist")?],
            submitter: ring.offset("submitter_task")?,
            users: ring.offset("tctx_list")?,
            user_task: user.offset("task")? - user.offset("ctx_node")?,
            more: vec![
                (ring.offset("buf_table")? + table, 4, More::Buffers),
                (ring.offset("io_bl_xa")? + xarray, 8, More::BufferGroups),
                (restrictions + registered, 1, More::Restrictions),
                (ring.offset("personalities")? + xarray, 8, More::Personalities),
                (ring.offset("iowq_limits")?, 8, More::Workers),
                (ring.offset("clock_offset")?, 4, More::Clock),
                (ring.offset("param_region")? + pages, 4, More::Region),
                (ring.offset("zcrx_ctxs")? + xarray, 8, More::Region),
                (ring.offset("futex_list")?, 8, More::Futexes),
                (ring.offset("waitid_list")?, 8, More::Children),
                (ring.offset("cancelable_uring_cmd")?, 8, More::Commands),
            ],
            registered: Registered::new(btf)?,
            event: ring.offset("io_ev_fd")?,
            event_context: event.offset("cq_ev_fd")?,
            event_late: event.offset("eventfd_async")?,
            event_len: event.size(),
            lists: [
                (ring.offset("cq_overflow_list")?, More::Overflow),
                (ring.offset("defer_list")?, More::Chains),
                (ring.offset("ltimeout_list")?, More::Chains),
            ],
            busy_poll: ring.offset("napi_track_mode").ok(),
            numbers: Numbers::new(btf)?,
            places: Places {
                sq_head: (sq + head) as u32,
                sq_tail: (sq + tail) as u32,
                sq_flags: rings.offset("sq_flags")? as u32,
                array: 0,
                cq_head: (cq + head) as u32,
                cq_tail: (cq + tail) as u32,
                completions: rings.offset("cqes")? as u32,
            },
            waiting: waiting::Layout::new(btf)?,
        })
    }
}

impl Inside {
    pub(super) fn open() -> Result<Self, OpenError> {
        let (memory, layout) = KernelMemory::open(Layout::new)?;
        Ok(Self { memory, layout })
    }

    /// The ring behind a descriptor of this process. `None`: it never stood
    /// still.
    pub(super) fn read(&mut self, ring: BorrowedFd<'_>) -> Result<Option<Found>, ReadError> {
        steady(|| self.try_read(ring))
    }

    fn try_read(&mut self, ring: BorrowedFd<'_>) -> Result<Found, ReadError> {
        let at = self.private(ring)?;
        let Self { memory, layout } = self;
        let bytes = memory.bytes(at, layout.size)?;
        let word = |offset: usize| number(&bytes, offset, 8);
        let half = |offset: usize| number(&bytes, offset, 4) as u32;
        let array = match word(layout.sq_array) {
            0 => 0,
            array => array.wrapping_sub(word(layout.rings)) as u32,
        };
        let pages = |offset: usize| half(offset) as usize * PAGE_SIZE as usize;
        let has = |&&(offset, len, _): &&(usize, usize, More)| number(&bytes, offset, len) != 0;
        let mut more = layout.more.iter().find(has).map(|&(_, _, more)| more);
        let holds = |&&(list, _): &&(usize, More)| word(list) != at + list as u64;
        more = more.or(layout.lists.iter().find(holds).map(|&(_, more)| more));
        if layout.busy_poll.is_some_and(|offset| bytes[offset] != NO_BUSY_POLL) {
            more = more.or(Some(More::BusyPoll));
        }
        let (allocated, free) = (half(layout.allocated), word(layout.free));
        let has_work = layout.work.iter().any(|&list| word(list) != 0);
        let (files, of_files) = layout.registered.read(memory, &bytes)?;
        let more = more.or(of_files);
        let event = match word(layout.event) {
            0 => None,
            event => {
                let event = memory.bytes(event, layout.event_len)?;
                let late = number(&event, layout.event_late, 4) != 0;
                Some((number(&event, layout.event_context, 8), late))
            }
        };
        let found = Found {
            at,
            setup: Setup::from_bits_retain(half(layout.flags)),
            sq_entries: half(layout.sq_entries),
            cq_entries: half(layout.cq_entries),
            taken: half(layout.sq_head),
            given: half(layout.cq_tail),
            places: Places { array, ..layout.places },
            rings_len: pages(layout.ring_pages),
            requests_len: pages(layout.request_pages),
            completing: 0,
            waiting: Vec::new(),
            files,
            event,
            users: Vec::new(),
            more,
            submitter: None,
        };
        let submitter = word(layout.submitter);
        let users = self.users(at)?;
        let users = users.into_iter().map(|task| self.pid(task)).collect::<Result<_, _>>()?;
        let in_flight = allocated.wrapping_sub(self.listed(free)?);
        let waiting = self.layout.waiting.read(&mut self.memory, at)?;
        // Completions that other rings send are no requests.
        let sent = has_work && waiting.iter().all(|request| !request.is_woken);
        let completing = in_flight.wrapping_sub(waiting.len() as u32).max(sent.into());
        let submitter = if submitter == 0 { None } else { Some(self.pid(submitter)?) };
        Ok(Found { completing, waiting, users, submitter, ..found })
    }

    /// The tasks that use the ring.
    fn users(&mut self, ring: Address) -> Result<Vec<Address>, ReadError> {
        let Self { memory, layout } = self;
        let users = memory.links(ring + layout.users as u64, MOST + 1)?;
        if users.len() > MOST {
            return Err(ReadError::Fault);
        }
        memory.words_behind(&users, layout.user_task)
    }

    /// The ring behind a descriptor of this process, or whatever else is of that file's own.
    pub(super) fn private(&mut self, file: BorrowedFd<'_>) -> Result<Address, ReadError> {
        Ok(self.layout.files.private_data(&mut self.memory, &[file])?[0])
    }

    /// The `struct file` of each of these descriptors of this process.
    pub(super) fn files(&mut self, files: &[BorrowedFd<'_>]) -> Result<Vec<Address>, ReadError> {
        self.layout.files.of(&mut self.memory, files)
    }

    /// How many requests are in a list.
    fn listed(&mut self, mut node: Address) -> Result<u32, ReadError> {
        let mut count = 0;
        while node != 0 {
            if count as usize >= MOST {
                return Err(ReadError::Fault);
            }
            count += 1;
            node = self.memory.word(node)?;
        }
        Ok(count)
    }

    /// The number of a task in this process's namespace, or zero.
    pub(super) fn pid(&mut self, task: Address) -> Result<i32, ReadError> {
        let Self { memory, layout } = self;
        match layout.numbers.pids(memory, &[task])?[..] {
            [0] => Ok(0),
            ref pids => Ok(layout.numbers.of(memory, pids)?[0]),
        }
    }
}
