//! Several epolls that are to be filled together: they can watch each other,
//! and the same files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::num::NonZeroU32;

use thiserror::Error;

use crate::event::{Events, FdNumber};
use crate::interest::{Interest, Item};

/// An epoll and what it is to be interested in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted<F> {
    /// The epoll itself, by the same identity as items name files.
    pub epoll: F,
    /// What it is to hold.
    pub interest: Interest<F>,
}

/// Why a set of epolls cannot exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum WantedError {
    /// The same epoll is given twice.
    #[error("epoll {epoll} of the set is one that came before")]
    SameEpoll {
        /// Index into the set.
        epoll: usize,
    },
    /// An epoll holds one key (file, number) twice.
    #[error("epoll {epoll} of the set has two items for descriptor {fd} of one file")]
    SameKey {
        /// Index into the set.
        epoll: usize,
        /// The number in the key.
        fd: FdNumber,
    },
    /// The list of pending items names one twice, or one that is not there.
    #[error("the pending items of epoll {epoll} of the set are not items of it, each once")]
    Pending {
        /// Index into the set.
        epoll: usize,
    },
    /// No kernel lets an item have this mask.
    #[error("descriptor {fd} in epoll {epoll} of the set has the impossible mask {events:?}")]
    Mask {
        /// Index into the set.
        epoll: usize,
        /// The number in the key.
        fd: FdNumber,
        /// The mask.
        events: Events,
    },
    /// An epoll watches itself, directly or through others.
    #[error("epoll {epoll} of the set watches itself")]
    Loop {
        /// Index into the set.
        epoll: usize,
    },
}

/// Stands for a file, from 0 up.
pub(crate) type FileIndex = usize;

/// The set, checked, with files and epolls by index.
pub(crate) struct Graph {
    /// How many files there are, epolls among them.
    pub(crate) files: usize,
    /// How many queues of several files.
    shared: usize,
    pub(crate) epolls: Vec<Epoll>,
    /// Indices into `epolls`; whatever an epoll watches comes before it.
    pub(crate) order: Vec<usize>,
}

pub(crate) struct Epoll {
    pub(crate) file: FileIndex,
    pub(crate) items: Vec<Item<FileIndex>>,
    pub(crate) pending: Vec<usize>,
    /// For each item its place in `pending`, from 1 up.
    pub(crate) place: Vec<Option<NonZeroU32>>,
}

impl Graph {
    /// The set, and the caller's identity of each file.
    pub(crate) fn new<F: Clone + Eq + Hash>(
        wanted: Vec<Wanted<F>>,
    ) -> Result<(Self, Vec<F>), WantedError> {
        let mut index: HashMap<F, FileIndex> = HashMap::new();
        let mut files = Vec::new();
        let mut intern = |file: &F| {
            *index.entry(file.clone()).or_insert_with(|| {
                files.push(file.clone());
                files.len() - 1
            })
        };
        let mut queues = HashMap::new();
        let mut epolls = Vec::with_capacity(wanted.len());
        let mut by_file = BTreeMap::new();
        for (epoll, Wanted { epoll: file, interest }) in wanted.into_iter().enumerate() {
            let file = intern(&file);
            if by_file.insert(file, epoll).is_some() {
                return Err(WantedError::SameEpoll { epoll });
            }
            let mut interest = interest.try_map(|item| Ok(intern(&item.file)))?;
            for queue in interest.items.iter_mut().filter_map(|item| item.queue.as_mut()) {
                let count = queues.len();
                *queue =
                    *queues.entry(*queue).or_insert(NonZeroU32::MIN.saturating_add(count as u32));
            }
            epolls.push(Epoll::new(epoll, file, interest)?);
        }
        let mut graph =
            Self { files: files.len(), shared: queues.len(), epolls, order: Vec::new() };
        graph.order = inner_first(&graph, &by_file)?;
        Ok((graph, files))
    }

    /// How many queues there are, one for each file and those that several have.
    pub(crate) fn queues(&self) -> usize {
        self.files + self.shared
    }

    /// Those that items on some files hang on, in order.
    pub(crate) fn queues_of(&self, mut files: Vec<FileIndex>) -> Vec<usize> {
        if files.is_empty() {
            return files;
        }
        files.sort_unstable();
        let items = self.epolls.iter().flat_map(|epoll| &epoll.items);
        let items = items.filter(|item| files.binary_search(&item.file).is_ok());
        let mut queues: Vec<_> = items.map(|item| self.queue(item)).collect();
        queues.sort_unstable();
        queues.dedup();
        queues
    }

    /// Which of them an item hangs on, from 0 up.
    pub(crate) fn queue(&self, item: &Item<FileIndex>) -> usize {
        item.queue.map_or(item.file, |queue| self.files + queue.get() as usize - 1)
    }
}

impl Epoll {
    fn new(
        epoll: usize,
        file: FileIndex,
        interest: Interest<FileIndex>,
    ) -> Result<Self, WantedError> {
        let Interest { items, pending } = interest;
        let mut keys: Vec<_> = items.iter().map(|item| (item.file, item.fd)).collect();
        keys.sort_unstable();
        if let Some(pair) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(WantedError::SameKey { epoll, fd: pair[0].1 });
        }
        drop(keys);
        for Item { fd, events, .. } in &items {
            // `do_epoll_ctl`: an exclusive item is never a one-shot, and only
            // a one-shot is ever disabled.
            let once = events.contains(Events::ONESHOT);
            let exclusive = events.contains(Events::EXCLUSIVE);
            if (events.fired() && !once) || (exclusive && once) {
                return Err(WantedError::Mask { epoll, fd: *fd, events: *events });
            }
        }
        let mut place = vec![None; items.len()];
        let positions = (1..=u32::MAX).map(NonZeroU32::new);
        for (position, &index) in positions.zip(&pending) {
            match place.get_mut(index) {
                Some(place @ None) => *place = position,
                _ => return Err(WantedError::Pending { epoll }),
            }
        }
        Ok(Self { file, items, pending, place })
    }
}

/// The epolls so that each comes after those it watches, and, among those,
/// after epolls with an exclusive item that is senior to one of its own, as
/// far as that goes.
fn inner_first(
    graph: &Graph,
    by_file: &BTreeMap<FileIndex, usize>,
) -> Result<Vec<usize>, WantedError> {
    let epolls = &graph.epolls;
    let mut nested = Edges::new(epolls.len());
    for (outer, epoll) in epolls.iter().enumerate() {
        for inner in epoll.items.iter().filter_map(|item| by_file.get(&item.file)) {
            nested.add(*inner, outer);
        }
    }
    let mut seniors = exclusive_seniors(graph);
    let mut waiting: BTreeSet<usize> = (0..epolls.len()).collect();
    let mut free: BTreeSet<usize> = waiting.clone();
    free.retain(|&epoll| nested.before[epoll] == 0);
    let mut best: BTreeSet<usize> = free.clone();
    best.retain(|&epoll| seniors.before[epoll] == 0);
    let mut order = Vec::with_capacity(epolls.len());
    while let Some(&next) = best.first().or(free.first()) {
        best.remove(&next);
        free.remove(&next);
        waiting.remove(&next);
        order.push(next);
        for epoll in nested.take(next).chain(seniors.take(next)) {
            if nested.before[epoll] == 0 && waiting.contains(&epoll) {
                free.insert(epoll);
                if seniors.before[epoll] == 0 {
                    best.insert(epoll);
                }
            }
        }
    }
    match waiting.first() {
        Some(&epoll) => Err(WantedError::Loop { epoll }),
        None => Ok(order),
    }
}

/// For each queue, its exclusive items' epolls, senior before junior.
fn exclusive_seniors(graph: &Graph) -> Edges {
    let mut queues: BTreeMap<usize, Vec<(u32, usize)>> = BTreeMap::new();
    for (index, epoll) in graph.epolls.iter().enumerate() {
        for item in epoll.items.iter().filter(|item| item.events.contains(Events::EXCLUSIVE)) {
            queues.entry(graph.queue(item)).or_default().push((item.seniority, index));
        }
    }
    let mut edges = Edges::new(graph.epolls.len());
    for items in queues.values_mut() {
        items.sort_unstable();
        for pair in items.windows(2) {
            if let [(senior, before), (junior, after)] = *pair
                && before != after
                && senior != junior
            {
                edges.add(before, after);
            }
        }
    }
    edges
}

/// What comes before what.
pub(crate) struct Edges {
    after: Vec<Vec<usize>>,
    /// How many that come before each are still to come.
    pub(crate) before: Vec<usize>,
}

impl Edges {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { after: vec![Vec::new(); nodes], before: vec![0; nodes] }
    }

    pub(crate) fn add(&mut self, before: usize, after: usize) {
        self.after[before].push(after);
        self.before[after] += 1;
    }

    /// One has come; gives those that came after it.
    pub(crate) fn take(&mut self, node: usize) -> impl Iterator<Item = usize> + use<> {
        let after = std::mem::take(&mut self.after[node]);
        for &after in &after {
            self.before[after] -= 1;
        }
        after.into_iter()
    }
}
