//! Waits for the requests of AIO contexts.
//!
//! A tree that stands still begins none, and those that have begun complete
//! by themselves. Only polls may never do.
//!
//! - Kernel object: `struct kioctx`, in `mm_struct.ioctx_table`
//! - Truth from: `fs/aio.c`. Of the places of a ring each is free, taken by a
//!   completion that the kernel has not seen read, or by a request in flight.
//!   Free ones are counted in the context and, for each processor, beside it
//!   (`struct kioctx_cpu`); they move from completions to a processor to the
//!   context, and are read in the opposite order so that none counts twice.
//! - Without `CAP_BPF` and `CAP_PERFMON`, or without type information: a
//!   context is refused

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dormouse_kernel::{AddrRange, HostPid};
use dormouse_resources::memory::{self, AioHeader, Backing, Obstacle};
use epoll_interest::kernel_memory::{Address, Btf, BtfError, KernelMemory, ReadError};

use super::enumerate::Census;
use super::traced::{Traced, Unreadable};
use crate::cause::{At, Cause};
use crate::{Error, Phase};

/// Waits until no request of any context is in flight, and adds to the census
/// what only the kernel knows of rings. Tells whether there is any.
pub(super) fn settle(
    census: &mut Census,
    timeout: Duration,
    is_abandoned: &dyn Fn() -> bool,
) -> Result<bool, Error> {
    const PHASE: Phase = Phase::Enumerate;
    const PAUSE: Duration = Duration::from_millis(1);
    let deadline = Instant::now() + timeout;
    let mut opened = None;
    for (&owner, space) in &mut census.spaces {
        for vma in &mut space.vmas {
            let Backing::AioRing { requests } = &mut vma.backing else { continue };
            let range = vma.range;
            let refuse = |obstacle| Err(refused(owner, range, obstacle)).of(PHASE, owner);
            let unseen = |error: Unreadable| {
                error.tell("AIO contexts cannot be saved");
                refused(owner, range, Obstacle::AioUnseen)
            };
            let contexts = match &mut opened {
                Some(contexts) => contexts,
                None => opened.insert(Contexts::open().map_err(unseen).of(PHASE, owner)?),
            };
            let at = contexts.find(owner, range).map_err(unseen).of(PHASE, owner)?;
            let Some(at) = at else { return refuse(Obstacle::AioForeign) };
            let mut context = contexts.read(at).map_err(unseen).of(PHASE, owner)?;
            if context.len != range.len() {
                return refuse(Obstacle::AioForeign);
            }
            while context.in_flight > 0 {
                if context.polls || Instant::now() >= deadline {
                    return refuse(Obstacle::AioInFlight);
                }
                if is_abandoned() {
                    return Err(Cause::Abandoned).of(PHASE, owner);
                }
                std::thread::sleep(PAUSE);
                context = contexts.read(at).map_err(unseen).of(PHASE, owner)?;
            }
            let header = AioHeader::read(owner, range).of(PHASE, owner)?;
            let is_kernels = |header: AioHeader| {
                (header.tail, header.events) == (context.tail, context.events)
                    && header.is_possible(context.batch)
            };
            if !header.is_some_and(is_kernels) {
                return refuse(Obstacle::AioOverwritten);
            }
            *requests = context.requests;
        }
    }
    Ok(opened.is_some())
}

fn refused(pid: HostPid, range: AddrRange, obstacle: Obstacle) -> memory::Error {
    memory::Error::Unsupported { pid, range, name: "/[aio] (deleted)".into(), obstacle }
}

/// The contexts of the tasks that this thread traces.
struct Contexts {
    memory: KernelMemory,
    layout: Layout,
    tasks: BTreeMap<HostPid, Address>,
    /// Those of each task, by the address that it knows a context by.
    found: BTreeMap<HostPid, BTreeMap<u64, Address>>,
    /// How far away the variables of each processor are.
    processors: Vec<Address>,
}

/// A context, as far as it is read here.
#[derive(Clone, Copy, Debug)]
struct Context {
    requests: u32,
    events: u32,
    /// How many places a processor takes at once.
    batch: u32,
    tail: u32,
    /// Bytes mapped.
    len: u64,
    in_flight: u32,
    /// Whether some of those in flight end only when they are told to, or when
    /// what they wait for happens.
    polls: bool,
}

/// Offsets in bytes.
struct Layout {
    traced: Traced,
    mm: usize,
    table: usize,
    table_len: usize,
    table_entries: usize,
    address: usize,
    of_processors: usize,
    requests: usize,
    events: usize,
    batch: usize,
    pages: usize,
    cancellable: usize,
    available: usize,
    available_to_processor: usize,
    completed: usize,
    tail: usize,
    map_pointers: usize,
}

impl Layout {
    fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let task = btf.structure("task_struct")?;
        let mm = btf.structure("mm_struct")?;
        let table = btf.structure("kioctx_table")?;
        let context = btf.structure("kioctx")?;
        Ok(Self {
            traced: Traced::new(btf)?,
            mm: task.offset("mm")?,
            table: mm.offset("ioctx_table")?,
            table_len: table.offset("nr")?,
            table_entries: table.offset("table")?,
            address: context.offset("user_id")?,
            of_processors: context.offset("cpu")?,
            requests: context.offset("max_reqs")?,
            events: context.offset("nr_events")?,
            batch: context.offset("req_batch")?,
            pages: context.offset("mmap_size")?,
            cancellable: context.offset("active_reqs")?,
            available: context.offset("reqs_available")?,
            available_to_processor: btf.structure("kioctx_cpu")?.offset("reqs_available")?,
            completed: context.offset("completed_events")?,
            tail: context.offset("tail")?,
            map_pointers: btf.structure("bpf_array")?.offset("pptrs")?,
        })
    }
}

impl Contexts {
    fn open() -> Result<Self, Unreadable> {
        let (mut memory, layout) = KernelMemory::open(Layout::new)?;
        let tasks = layout.traced.newest(&mut memory, usize::MAX)?.into_iter().collect();
        let processors = possible_processors().ok_or(Unreadable::Hidden("any processor"))?;
        let processors = memory.of_processors(&processors, layout.map_pointers)?;
        Ok(Self { memory, layout, tasks, found: BTreeMap::new(), processors })
    }

    /// The context of a task whose ring is at the start of `range`.
    fn find(&mut self, task: HostPid, range: AddrRange) -> Result<Option<Address>, Unreadable> {
        if !self.found.contains_key(&task) {
            let contexts = self.all(task)?;
            self.found.insert(task, contexts);
        }
        Ok(self.found[&task].get(&range.start().as_raw()).copied())
    }

    fn all(&mut self, task: HostPid) -> Result<BTreeMap<u64, Address>, Unreadable> {
        let Self { memory, layout, tasks, .. } = self;
        let task = tasks.get(&task).ok_or(Unreadable::Hidden("the task"))?;
        let mm = memory.word(task + layout.mm as u64)?;
        let table = memory.word(mm + layout.table as u64)?;
        if table == 0 {
            return Ok(BTreeMap::new());
        }
        let len = memory.word(table + layout.table_len as u64)? as u32;
        let entries = table + layout.table_entries as u64;
        let at: Vec<_> = (0..u64::from(len)).map(|number| entries + 8 * number).collect();
        let mut contexts = memory.words(&at)?;
        contexts.retain(|&context| context != 0);
        let addresses = memory.words_behind(&contexts, layout.address)?;
        Ok(addresses.into_iter().zip(contexts).collect())
    }

    fn read(&mut self, context: Address) -> Result<Context, Unreadable> {
        let Self { memory, layout, processors, .. } = self;
        let number = |memory: &mut KernelMemory, offset: usize| -> Result<u32, ReadError> {
            Ok(memory.word(context + offset as u64)? as u32)
        };
        let mut free = number(memory, layout.available)?;
        let of_processors = memory.word(context + layout.of_processors as u64)?;
        let at = processors.iter().map(|processor| processor.wrapping_add(of_processors));
        let at: Vec<_> = at.map(|at| at + layout.available_to_processor as u64).collect();
        for word in memory.words(&at)? {
            free = free.wrapping_add(word as u32);
        }
        let completed = number(memory, layout.completed)?;
        let cancellable = context + layout.cancellable as u64;
        let events = number(memory, layout.events)?;
        // One place is always left between the last and the first.
        let places = events.wrapping_sub(1);
        Ok(Context {
            requests: number(memory, layout.requests)?,
            events,
            batch: number(memory, layout.batch)?,
            tail: number(memory, layout.tail)?,
            len: memory.word(context + layout.pages as u64)?,
            in_flight: places.wrapping_sub(free).wrapping_sub(completed),
            polls: memory.word(cancellable)? != cancellable,
        })
    }
}

/// The processors that the kernel keeps variables for.
fn possible_processors() -> Option<Vec<u32>> {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/possible").ok()?;
    let mut processors = Vec::new();
    for some in list.trim_end().split(',') {
        let (first, last) = some.split_once('-').unwrap_or((some, some));
        processors.extend(first.parse::<u32>().ok()?..=last.parse().ok()?);
    }
    Some(processors)
}
