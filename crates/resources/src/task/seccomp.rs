//! Seccomp: what keeps a thread from making system calls.
//!
//! - Kernel object: `task_struct.seccomp`, `struct seccomp_filter`
//! - Truth from: `Seccomp:` of `/proc/PID/task/TID/status`;
//!   `PTRACE_SECCOMP_GET_FILTER` and `PTRACE_SECCOMP_GET_METADATA`, which take
//!   `CAP_SYS_ADMIN`
//! - Image: `core-TID.img`, `thread_core.{seccomp_mode, seccomp_filter}`; the
//!   filters in `seccomp.img`, each with the one before it, those that are the
//!   same only once
//! - Create: `seccomp(2)`, before credentials, while dormouse suspends filters
//!   (`PTRACE_O_SUSPEND_SECCOMP`); what all threads of a process have in common
//!   by its first thread with `SECCOMP_FILTER_FLAG_TSYNC`, so that it is common
//!   to the kernel too. As in CRIU's images, filters that all threads have are
//!   named at that thread only, with the flag
//! - Not preserved: filters with user notification, which are refused; that
//!   some but not all threads share a filter; `SECCOMP_FILTER_FLAG_SPEC_ALLOW`,
//!   whose effect is kept as speculation control
//! - Beware: if dormouse is killed while such a thread makes calls for it, the
//!   calls by which the thread goes back are filtered
//! - Scenarios: `seccomp::*`

use std::collections::BTreeMap;

use dormouse_image::proto::core::{CoreEntry, SeccompMode as Mode};
use dormouse_image::proto::seccomp::{SeccompEntry, SeccompFilter};
use dormouse_image::{ImageDir, ImageName};
use dormouse_kernel::HostPid;
use dormouse_kernel::proc::SeccompMode;
use dormouse_kernel::ptrace::Stopped;
use dormouse_puppet::Batch;

use super::refusal::Refusal;
use crate::Result;
use crate::corrupt::{corrupt, corrupt_core};

/// What a thread has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seccomp {
    /// Nothing.
    Off,
    /// Nothing but read, write, exit and sigreturn.
    Strict,
    /// Filters, of which this was the last to come.
    Filter(FilterId),
}

/// A filter's place in `seccomp.img`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilterId(u32);

/// All filters of a tree; each comes after the one it was put on top of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    list: Vec<Filter>,
    known: BTreeMap<Filter, FilterId>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Filter {
    before: Option<FilterId>,
    /// `struct sock_filter`s, eight bytes each.
    program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_LOG`.
    log: bool,
    /// Whether it is meant for all threads, though the images name it at the
    /// first one only: `SECCOMP_FILTER_FLAG_TSYNC`.
    for_all: bool,
}

const NAME: &str = "seccomp filters";
const FLAG_TSYNC: u64 = 1;
const FLAG_LOG: u64 = 2;
const INSTRUCTION: usize = 8;
/// `BPF_MAXINSNS`.
const MOST_INSTRUCTIONS: usize = 4096;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;
const ACTION: u32 = 0xffff_0000;
const USER_NOTIFICATION: u32 = 0x7fc0_0000;

impl Filters {
    /// Reads what a stopped thread has.
    pub fn collect(&mut self, task: &Stopped, mode: SeccompMode) -> Result<Seccomp> {
        match mode {
            SeccompMode::Disabled => Ok(Seccomp::Off),
            SeccompMode::Strict => Ok(Seccomp::Strict),
            SeccompMode::Filter { .. } => {
                let mut last = None;
                for index in 0.. {
                    let Some((program, flags)) = task.seccomp_filter(index)? else { break };
                    check_listener(task.tid(), &program)?;
                    let log = flags & FLAG_LOG != 0;
                    last = Some(self.add(Filter { before: last, program, log, for_all: false }));
                }
                Ok(last.map_or(Seccomp::Off, Seccomp::Filter))
            }
        }
    }

    fn add(&mut self, filter: Filter) -> FilterId {
        let next = FilterId(self.list.len() as u32);
        *self.known.entry(filter).or_insert_with_key(|filter| {
            self.list.push(filter.clone());
            next
        })
    }

    /// The image, if there is something to write.
    #[must_use]
    pub fn encode(&self) -> Option<SeccompEntry> {
        let entry = |Filter { before, program, log, for_all }: &Filter| SeccompFilter {
            filter: program.clone(),
            prev: before.map(|FilterId(index)| index),
            flags: Some(
                if *log { FLAG_LOG as u32 } else { 0 }
                    | if *for_all { FLAG_TSYNC as u32 } else { 0 },
            ),
        };
        let seccomp_filters: Vec<_> = self.list.iter().map(entry).collect();
        (!seccomp_filters.is_empty()).then_some(SeccompEntry { seccomp_filters })
    }

    /// Reads them back and judges them.
    pub fn decode(dir: &ImageDir) -> Result<Self> {
        let entry: Option<SeccompEntry> = dir.find_one(ImageName::Seccomp)?;
        let mut filters = Self::default();
        for (index, entry) in (0..).zip(entry.unwrap_or_default().seccomp_filters) {
            let bad = |reason| corrupt(ImageName::Seccomp, "filter", index, reason);
            let SeccompFilter { filter, prev, flags } = entry;
            let instructions = filter.len() / INSTRUCTION;
            if filter.len() % INSTRUCTION != 0 || !(1..=MOST_INSTRUCTIONS).contains(&instructions) {
                return Err(bad("not as many instructions as a program can have"));
            }
            if prev.is_some_and(|prev| prev >= index) {
                return Err(bad("the one before it comes after it"));
            }
            let flags = u64::from(flags.unwrap_or(0));
            if flags & !(FLAG_LOG | FLAG_TSYNC) != 0 {
                return Err(bad("flags that a filter does not keep"));
            }
            filters.list.push(Filter {
                before: prev.map(FilterId),
                program: filter,
                log: flags & FLAG_LOG != 0,
                for_all: flags & FLAG_TSYNC != 0,
            });
        }
        Ok(filters)
    }

    /// A filter and all it was put on top of, the oldest first.
    fn chain(&self, seccomp: Seccomp) -> Vec<FilterId> {
        let mut next = match seccomp {
            Seccomp::Filter(last) => Some(last),
            Seccomp::Off | Seccomp::Strict => None,
        };
        let mut chain = Vec::new();
        while let Some(id) = next {
            chain.push(id);
            next = self.list[id.0 as usize].before;
        }
        chain.reverse();
        chain
    }

    /// What a thread has whose image says `own`, in a process whose first
    /// thread has `first`.
    #[must_use]
    pub fn of_thread(&self, own: Seccomp, first: Seccomp) -> Seccomp {
        match (own, first) {
            (Seccomp::Off, Seccomp::Filter(last)) if self.list[last.0 as usize].for_all => first,
            _ => own,
        }
    }

    /// What the images say of the threads of a process, the first of them
    /// first. Filters that all of them have are those of the first, for all.
    #[must_use]
    pub fn named(&mut self, threads: &[Seccomp]) -> Vec<Seccomp> {
        let [first @ Seccomp::Filter(_), others @ ..] = threads else { return threads.to_vec() };
        if others.is_empty() || others.iter().any(|other| other != first) {
            return threads.to_vec();
        }
        let mut last = None;
        for FilterId(id) in self.chain(*first) {
            let filter = Filter { before: last, for_all: true, ..self.list[id as usize].clone() };
            last = Some(self.add(filter));
        }
        let mut named = vec![Seccomp::Off; threads.len()];
        named[0] = last.map_or(Seccomp::Off, Seccomp::Filter);
        named
    }

    /// How many filters, from the oldest on, all threads of a process have.
    #[must_use]
    pub fn in_common(&self, threads: &[Seccomp]) -> usize {
        let chains: Vec<_> = threads.iter().map(|&seccomp| self.chain(seccomp)).collect();
        let Some(first) = chains.first() else { return 0 };
        let everywhere =
            |index: usize| chains.iter().all(|chain| chain.get(index) == first.get(index));
        (0..first.len()).take_while(|&index| everywhere(index)).count()
    }

    /// Has a thread put the first `count` of its filters on all threads of its
    /// process, which must have none.
    pub fn apply_to_all(&self, seccomp: Seccomp, count: usize, batch: &mut Batch) {
        for &id in &self.chain(seccomp)[..count] {
            self.install(id, FLAG_TSYNC, batch);
        }
    }

    /// Has a thread put on itself all but the first `count` of its filters.
    pub fn apply(&self, seccomp: Seccomp, count: usize, batch: &mut Batch) {
        if seccomp == Seccomp::Strict {
            batch.call(
                libc::SYS_prctl,
                [libc::PR_SET_SECCOMP.into(), libc::SECCOMP_MODE_STRICT.into()],
            );
        }
        for &id in &self.chain(seccomp)[count..] {
            self.install(id, 0, batch);
        }
    }

    fn install(&self, FilterId(id): FilterId, flags: u64, batch: &mut Batch) {
        let Filter { program, log, .. } = &self.list[id as usize];
        let flags = flags | if *log { FLAG_LOG } else { 0 };
        let length = (program.len() / INSTRUCTION) as u64;
        // `struct sock_fprog`: a length, and a pointer.
        let fprog = batch.data([length, 0].map(u64::to_ne_bytes).as_flattened());
        let program = batch.data(program);
        batch.point(fprog, 8, program);
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        batch.call(libc::SYS_seccomp, [mode.into(), flags.into(), fprog.into()]);
    }
}

/// A filter that asks somebody else does so by a descriptor which that has; the
/// kernel makes one only with a new filter.
fn check_listener(tid: HostPid, program: &[u8]) -> Result<()> {
    let (instructions, _) = program.as_chunks::<INSTRUCTION>();
    let asks = |instruction: &[u8; INSTRUCTION]| {
        let code = u16::from_ne_bytes([instruction[0], instruction[1]]);
        let value = u32::from_ne_bytes(std::array::from_fn(|i| instruction[4 + i]));
        code == RETURN && value & ACTION == USER_NOTIFICATION
    };
    if instructions.iter().any(asks) {
        return Err(Refusal::SeccompNotification.error(format!("of tid {tid}")));
    }
    Ok(())
}

impl Seccomp {
    /// Writes it to the image of the thread.
    pub fn encode(self, core: &mut CoreEntry) {
        let (mode, filter) = match self {
            Self::Off => return,
            Self::Strict => (Mode::Strict, None),
            Self::Filter(FilterId(id)) => (Mode::Filter, Some(id)),
        };
        let thread = core.thread_core.get_or_insert_default();
        (thread.seccomp_mode, thread.seccomp_filter) = (Some(mode.into()), filter);
    }

    /// Reads it back and judges it.
    pub fn decode(core: &CoreEntry, filters: &Filters) -> Result<Self> {
        let thread = core.thread_core.as_ref();
        let old = core.tc.as_ref();
        let mode = thread.and_then(|thread| thread.seccomp_mode);
        let mode = mode.or(old.and_then(|tc| tc.old_seccomp_mode)).unwrap_or(0);
        let filter = thread.and_then(|thread| thread.seccomp_filter);
        let filter = filter.or(old.and_then(|tc| tc.old_seccomp_filter));
        match Mode::try_from(mode) {
            Ok(Mode::Disabled) => Ok(Self::Off),
            Ok(Mode::Strict) => Ok(Self::Strict),
            Ok(Mode::Filter) => match filter {
                Some(id) if (id as usize) < filters.list.len() => Ok(Self::Filter(FilterId(id))),
                _ => Err(corrupt_core(NAME, "the last filter is not there")),
            },
            Err(_) => Err(corrupt_core(NAME, "a mode there is not")),
        }
    }
}

#[cfg(test)]
mod tests {
    use dormouse_image::proto::core::CoreEntry;
    use dormouse_kernel::HostPid;

    use super::{Filter, Filters, Seccomp, check_listener};

    fn filter(before: Option<super::FilterId>, byte: u8) -> Filter {
        Filter { before, program: vec![byte; 16], log: byte == 1, for_all: false }
    }

    #[test]
    fn the_same_filters_are_kept_once() {
        let mut filters = Filters::default();
        let first = filters.add(filter(None, 1));
        let second = filters.add(filter(Some(first), 2));
        let other = filters.add(filter(None, 2));
        assert_eq!(filters.add(filter(Some(first), 2)), second);
        assert_ne!(second, other);
        assert_eq!(filters.list.len(), 3);
        let threads = [second, first].map(Seccomp::Filter);
        assert_eq!(filters.in_common(&threads), 1);
        assert_eq!(filters.in_common(&threads[..1]), 2);
        assert_eq!(filters.in_common(&[threads[0], Seccomp::Off]), 0);
    }

    #[test]
    fn what_all_threads_have_is_named_once() {
        let mut filters = Filters::default();
        let first = filters.add(filter(None, 1));
        let second = filters.add(filter(Some(first), 2));
        let has = |filter| Seccomp::Filter(filter);
        let alone =
            [vec![has(second)], vec![has(second), has(first)], vec![has(first), Seccomp::Off]];
        for threads in alone {
            assert_eq!(filters.named(&threads), threads);
        }
        let threads = [has(second); 3];
        let named = filters.named(&threads);
        assert_eq!(named[1..], [Seccomp::Off; 2]);
        let read = named.iter().map(|&own| filters.of_thread(own, named[0]));
        assert!(read.clone().all(|own| own == named[0] && own != Seccomp::Off));
        assert_eq!(filters.in_common(&read.collect::<Vec<_>>()), 2);
        // Another process with the same filters is not meant.
        assert_eq!(filters.of_thread(Seccomp::Off, has(second)), Seccomp::Off);
    }

    #[test]
    fn a_thread_needs_its_filter() {
        let mut filters = Filters::default();
        let id = filters.add(filter(None, 1));
        let mut core = CoreEntry::default();
        Seccomp::Filter(id).encode(&mut core);
        assert_eq!(Seccomp::decode(&core, &filters).unwrap(), Seccomp::Filter(id));
        assert!(Seccomp::decode(&core, &Filters::default()).is_err());
    }

    #[test]
    fn a_supervisor_is_seen() {
        let tid = HostPid::from_raw(7).unwrap();
        let program = [[0x06, 0, 0, 0, 0, 0, 0xff, 0x7f], [0x06, 0, 0, 0, 0, 0, 0xc0, 0x7f]];
        assert!(check_listener(tid, &program[0]).is_ok());
        assert!(check_listener(tid, program.as_flattened()).is_err());
    }
}
