//! The second service: putting items into epolls, under any number and in any
//! state.
//!
//! `epoll_ctl` takes the number of an item's key from the fd table of its
//! caller. So the calls are made by a thread whose fd table is its own, where
//! each file is put under the number it needs, free or not. An item stays when
//! that table goes: it belongs to the open file description, and ends with the
//! last descriptor for it anywhere (`eventpoll_release`, `fs/eventpoll.c`).

mod ended;
mod error;
mod fanotify;
mod join;
mod nudge;
mod places;

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::OnceLock;

use crate::event::{Events, FdNumber};
use crate::graph::{FileIndex, Graph, Wanted, WantedError};
use crate::plan::{Plan, Step, rotates};
use crate::table::{Change, PrivateTable, Report, with_private_table};
pub use ended::{EndedInsertion, insert_by_ended};
pub use error::InsertError;
pub use join::LateItem;
use nudge::Nudge;
use places::Places;

/// An item to insert without regard to its state.
#[derive(Clone, Copy, Debug)]
pub struct Insertion<'fd> {
    /// What to watch.
    pub file: BorrowedFd<'fd>,
    /// The number of the key.
    pub fd: FdNumber,
    /// What to wait for; the kernel adds `ERR` and `HUP`.
    pub events: Events,
    /// What `epoll_wait` is to hand back.
    pub data: u64,
}

/// Adds items to an epoll, in this order, each under its own number whatever
/// that number is in the calling process.
///
/// This is `EPOLL_CTL_ADD` for each, and like that leaves an item pending if
/// its file is ready. [`Rebuild`] gives items any state.
///
/// # Errors
/// [`InsertError`], with index 0 for the epoll. Items before the one that
/// failed stay.
pub fn insert(epoll: BorrowedFd<'_>, items: &[Insertion<'_>]) -> Result<(), InsertError> {
    control(Change::Add, epoll, items, None)
}

/// Changes items of an epoll that are there, in this order, each by its own key.
///
/// This is `EPOLL_CTL_MOD` for each, and like that has an item become pending if
/// its file is ready. A signalfd is ready if a signal waits for who calls: `signal` is one that is to
/// wait meanwhile.
///
/// # Errors
/// [`InsertError`], with index 0 for the epoll. Items before the one that
/// failed are changed.
pub fn modify(
    epoll: BorrowedFd<'_>,
    items: &[Insertion<'_>],
    signal: Option<i32>,
) -> Result<(), InsertError> {
    control(Change::Modify, epoll, items, signal)
}

fn control(
    change: Change,
    epoll: BorrowedFd<'_>,
    items: &[Insertion<'_>],
    signal: Option<i32>,
) -> Result<(), InsertError> {
    let mut index = HashMap::from([(epoll.as_raw_fd(), 0)]);
    let (mut homes, mut uses) = (vec![Some(epoll.as_raw_fd())], vec![1]);
    let mut files = Vec::with_capacity(items.len());
    for item in items {
        let home = item.file.as_raw_fd();
        let file = *index.entry(home).or_insert(homes.len());
        if file == homes.len() {
            homes.push(Some(home));
            uses.push(0);
        }
        uses[file] += 1;
        files.push(file);
    }
    let targets: Vec<_> = items
        .iter()
        .map(|&Insertion { file: _, fd, events, data }| (fd, events, data))
        .zip(files)
        .collect();
    let work = |table: &mut PrivateTable| {
        signal.map_or(Ok(()), |signal| table.await_signal(signal)).map_err(InsertError::Thread)?;
        let mut places = Places::new(table, homes, uses).map_err(InsertError::Poll)?;
        for ((fd, events, data), file) in targets {
            let place = |source| InsertError::Place { epoll: 0, fd, source };
            let control = |source| InsertError::Control { epoll: 0, fd, source };
            places.put(table, file, fd).map_err(place)?;
            let epoll = places.home(0);
            table.control(epoll, change, places::slot(fd), events, data).map_err(control)?;
            places.done(file);
        }
        Ok(())
    };
    with_private_table(work).map_err(InsertError::Thread)?
}

/// A fired one-shot whose file reported nothing at the time and could not be
/// made to: it was inserted armed for `ERR` and `HUP`, which the kernel adds to
/// every armed item, and will be reported once if one of these comes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftArmed<F> {
    /// The epoll.
    pub epoll: F,
    /// What it watches.
    pub file: F,
    /// The number of the key.
    pub fd: FdNumber,
}

/// Fills a set of epolls, empty at first, so that they are interested in what
/// they are to be interested in, with every item in its state and the pending
/// ones in their order.
///
/// The epolls of a set can watch each other, and the same files. Epolls that
/// do should be in one set, or the order in which a file tells several of its
/// items is not kept.
///
/// Two steps, each a few calls over the bare `epoll_ctl` for every item:
/// [`prepare`](Self::prepare), when files report *something*, anything, as
/// nearly all do while they are new: an eventfd can be written, a socket that
/// neither listens nor is connected hangs up. Then
/// [`finish`](Self::finish), when all files are in their final state and
/// nothing moves them: an event that comes in while this runs can be taken for
/// a part of that state. Both can be called one right after the other.
///
/// What is not kept:
/// - An item that is pending though its file has nothing for it any more (it
///   was read in between) is not pending afterwards, if the file does not report
///   anything else either, or the item is [`EXCLUSIVE`](Events::EXCLUSIVE), or
///   in an epoll that another epoll watches. It is reported when the file has
///   something to report, as it would have been, but possibly after items that
///   would have come after it.
/// - The kernel lets nobody change an [`EXCLUSIVE`](Events::EXCLUSIVE) item
///   once it is added. So if a pending edge is on one, and its file has several of them
///   in one epoll, or in epolls that watch each other, or in several that have those of
///   several files in different orders, its order on the file can come out another. The order in
///   which items are pending can if thousands of exclusive ones, level-triggered, hang on
///   one queue in an order that is nothing like it.
/// - A fired one-shot whose file reports nothing at either time and cannot be made to: see
///   [`LeftArmed`]. On an inotify it can, for the price of a watch number: see
///   [`finish`](Self::finish).
pub struct Rebuild<F> {
    files: Vec<F>,
    graph: Graph,
    plan: Plan,
    /// Queues that fired one-shots hang on whose turn comes at the end, once
    /// that is known, in order.
    late: OnceLock<Vec<usize>>,
}

impl<F: Clone + Eq + Hash> Rebuild<F> {
    /// Checks the set.
    ///
    /// # Errors
    /// [`WantedError`] if no kernel can hold such epolls.
    pub fn new(wanted: Vec<Wanted<F>>) -> Result<Self, WantedError> {
        let (graph, files) = Graph::new(wanted)?;
        let plan = Plan::new(&graph);
        Ok(Self { files, graph, plan, late: OnceLock::new() })
    }

    /// Adds what must come first: one-shots that are to be fired, and some
    /// items whose order on their file matters.
    ///
    /// `fd` gives a descriptor for each epoll and file; they stay the caller's
    /// and can be closed after. What reports nothing is made ready for the
    /// moment if it is an epoll (an item is added and removed), the end of a
    /// pipe or FIFO (a byte is written and read, or the capacity doubled and
    /// halved; needs `/proc`), or a disarmed timerfd (it is armed and
    /// disarmed). A caller can make other files ready before and undo it after.
    /// What still reports nothing, or can be made ready only when it is in its
    /// final state, has its turn in [`finish`](Self::finish).
    ///
    /// # Errors
    /// [`InsertError`]; the epolls are then good for nothing but being closed.
    pub fn prepare<'fd>(
        &self,
        fd: impl Fn(&F) -> Option<BorrowedFd<'fd>>,
    ) -> Result<(), InsertError> {
        let fds = self.descriptors(fd)?;
        let Self { graph, plan, .. } = self;
        let files = plan.to_be_ready(graph, |_| true);
        let late = |&file: &FileIndex| fds[file].is_some_and(nudge::comes_late);
        let (mut late, now): (Vec<_>, Vec<_>) = files.into_iter().partition(late);
        late.extend(self.fire(&fds, &now, |silent| {
            let later = graph.queues_of([&late[..], silent].concat());
            move |queue| later.binary_search(&queue).is_err()
        })?);
        // Whoever shares a queue with one comes with it.
        let _ = self.late.set(graph.queues_of(late));
        Ok(())
    }

    /// Adds the early items on those queues that are `chosen`, given the files
    /// which report nothing, and returns these.
    fn fire<C: Fn(usize) -> bool>(
        &self,
        fds: &[Option<BorrowedFd<'_>>],
        to_be_ready: &[FileIndex],
        chosen: impl FnOnce(&[FileIndex]) -> C,
    ) -> Result<Vec<FileIndex>, InsertError> {
        let Self { graph, plan, .. } = self;
        let asked: Vec<_> = to_be_ready.iter().filter_map(|&file| fds[file]).collect();
        let told = nudge::any_condition(&asked).map_err(InsertError::Poll)?;
        let (mut silent, mut nudges) = (Vec::new(), Vec::new());
        for ((&file, &fd), told) in to_be_ready.iter().zip(&asked).zip(told) {
            if told {
                continue;
            }
            match Nudge::give(fd) {
                Some(nudge) => nudges.push(nudge),
                None => silent.push(file),
            }
        }
        let steps =
            plan.prepare(graph, chosen(&silent), |file| silent.binary_search(&file).is_err());
        let mut uses = vec![0; fds.len()];
        for step in &steps {
            if let Step::Add { epoll, item, .. } = *step {
                uses[graph.epolls[epoll as usize].items[item as usize].file] += 1;
            }
        }
        let result = match steps.as_slice() {
            [] => Ok(()),
            steps => self.work(fds, uses, |hands| hands.run(steps)),
        };
        // Last first, as each was given upon the ones before.
        let undone = nudges.into_iter().rev().map(Nudge::undo).fold(Ok(()), Result::and);
        result?;
        undone.map_err(InsertError::Undo)?;
        Ok(silent)
    }

    /// Adds everything else, and sets every item to its state. An inotify or
    /// fanotify that a one-shot has fired on, and that has nothing to report now, is made
    /// ready here: the latter by a mark that is added and removed, the former by
    /// a watch, so the next one that the
    /// program adds has a number that is higher by one.
    ///
    /// # Errors
    /// [`InsertError`]; the epolls are then good for nothing but being closed.
    pub fn finish<'fd>(
        &self,
        fd: impl Fn(&F) -> Option<BorrowedFd<'fd>>,
    ) -> Result<Vec<LeftArmed<F>>, InsertError> {
        let Self { graph, plan, .. } = self;
        let fds = self.descriptors(fd)?;
        let late = self.late.get().map_or(&[][..], Vec::as_slice);
        let chosen = |queue: usize| late.binary_search(&queue).is_ok();
        let files = if late.is_empty() { Vec::new() } else { plan.to_be_ready(graph, chosen) };
        let left = self.fire(&fds, &files, |_| chosen)?;
        let mut uses = vec![0; fds.len()];
        for item in graph.epolls.iter().flat_map(|epoll| &epoll.items) {
            uses[item.file] += 1;
        }
        self.work(&fds, uses, |hands| {
            let conditions = hands.conditions(&plan.to_be_known_first(graph))?;
            let (steps, fronts) = plan.begin(graph, |file| conditions[file]);
            hands.run(&steps)?;
            for &epoll in &graph.order {
                let conditions = hands.conditions(&plan.to_be_known(graph, epoll))?;
                hands.run(&plan.finish(graph, epoll, &fronts, |file| conditions[file]))?;
            }
            Ok(())
        })?;
        Ok(self.left_armed(|file| left.binary_search(&file).is_ok()))
    }

    fn work(
        &self,
        fds: &[Option<BorrowedFd<'_>>],
        mut uses: Vec<usize>,
        work: impl FnOnce(&mut Hands<'_>) -> Result<(), InsertError> + Send,
    ) -> Result<(), InsertError> {
        let mut slots: Vec<_> = fds.iter().map(|fd| fd.map(|fd| fd.as_raw_fd())).collect();
        let epolls = &self.graph.epolls;
        for epoll in epolls {
            // Never done with.
            uses[epoll.file] += 1;
        }
        with_private_table(move |table| {
            let items = epolls.iter().flat_map(|epoll| &epoll.items);
            let items = items.map(|item| (item.file, item.fd));
            Places::gather(table, &mut slots, items).map_err(InsertError::Poll)?;
            let places = Places::new(table, slots, uses).map_err(InsertError::Poll)?;
            work(&mut Hands { table, places, epolls, reports: Vec::new() })
        })
        .map_err(InsertError::Thread)?
    }

    /// By index of the file.
    fn descriptors<'fd>(
        &self,
        fd: impl Fn(&F) -> Option<BorrowedFd<'fd>>,
    ) -> Result<Vec<Option<BorrowedFd<'fd>>>, InsertError> {
        let fds: Vec<_> = self.files.iter().map(fd).collect();
        for (index, epoll) in self.graph.epolls.iter().enumerate() {
            if fds[epoll.file].is_none() {
                return Err(InsertError::NoEpoll { epoll: index });
            }
            if let Some(item) = epoll.items.iter().find(|item| fds[item.file].is_none()) {
                return Err(InsertError::NoFile { epoll: index, fd: item.fd });
            }
        }
        Ok(fds)
    }

    fn left_armed(&self, left: impl Fn(FileIndex) -> bool) -> Vec<LeftArmed<F>> {
        let files = &self.files;
        let of_epoll = self.graph.epolls.iter().flat_map(|epoll| {
            let fired = epoll.items.iter().filter(|item| item.fired());
            fired.map(move |item| (epoll.file, item))
        });
        of_epoll
            .filter(|(_, item)| left(item.file))
            .map(|(epoll, item)| LeftArmed {
                epoll: files[epoll].clone(),
                file: files[item.file].clone(),
                fd: item.fd,
            })
            .collect()
    }
}

impl<F> fmt::Debug for Rebuild<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rebuild").field("epolls", &self.graph.epolls.len()).finish_non_exhaustive()
    }
}

/// What carries out a plan, in a private table.
struct Hands<'a> {
    table: &'a mut PrivateTable,
    places: Places,
    epolls: &'a [crate::graph::Epoll],
    reports: Vec<Report>,
}

impl Hands<'_> {
    fn run(&mut self, steps: &[Step]) -> Result<(), InsertError> {
        for (index, &step) in steps.iter().enumerate() {
            match step {
                Step::Add { epoll, item, events } => {
                    let wanted = self.control(Change::Add, (epoll, item), events)?;
                    // A step that forces an item into the list is followed by
                    // the one that sets its mask.
                    let again = matches!(steps.get(index + 1),
                        Some(Step::Modify { epoll: e, item: i, .. }) if (*e, *i) == (epoll, item));
                    if !again {
                        self.places.done(wanted);
                    }
                }
                Step::Modify { epoll, item, events } => {
                    self.control(Change::Modify, (epoll, item), events)?;
                }
                Step::Drain { epoll } => self.drain(epoll)?,
                Step::Rotate { epoll, count } => {
                    self.wait(epoll as usize, count as usize)?;
                }
            }
        }
        Ok(())
    }

    /// Makes the call, and says which file the item watches.
    fn control(
        &mut self,
        change: Change,
        (epoll, item): (u32, u32),
        events: Events,
    ) -> Result<FileIndex, InsertError> {
        let epoll = epoll as usize;
        let wanted = &self.epolls[epoll].items[item as usize];
        let fd = wanted.fd;
        self.places.put(self.table, wanted.file, fd).map_err(|source| InsertError::Place {
            epoll,
            fd,
            source,
        })?;
        let home = self.places.home(self.epolls[epoll].file);
        self.table
            .control(home, change, places::slot(fd), events, wanted.data)
            .map_err(|source| InsertError::Control { epoll, fd, source })?;
        Ok(wanted.file)
    }

    /// Looks at everything in the ready list once. Level-triggered items stay
    /// in it, at its end, so an empty list is not what ends this; by one call, if
    /// there may be any, as they are to end up in the order they were in.
    fn drain(&mut self, epoll: usize) -> Result<(), InsertError> {
        const AT_ONCE: usize = 4096;
        let wanted = &self.epolls[epoll].items;
        // One more than it will have: a nudge may be among them.
        let items = wanted.len() + 1;
        let whole = items > AT_ONCE && wanted.iter().any(|item| rotates(item.events));
        let most = if whole { items } else { items.min(AT_ONCE) };
        let mut seen = 0;
        while seen < items {
            let count = self.wait(epoll, most)?;
            seen += count;
            if count < most {
                break;
            }
        }
        Ok(())
    }

    fn wait(&mut self, epoll: usize, most: usize) -> Result<usize, InsertError> {
        if self.reports.len() < most {
            self.reports.resize(most, Report { events: 0, u64: 0 });
        }
        let home = self.places.home(self.epolls[epoll].file);
        self.table
            .wait(home, &mut self.reports[..most])
            .map_err(|source| InsertError::Wait { epoll, source })
    }

    /// By index of the file; nothing for those not asked about.
    fn conditions(&mut self, files: &[FileIndex]) -> Result<Vec<Events>, InsertError> {
        let slots: Vec<_> = files.iter().map(|&file| self.places.home(file)).collect();
        let told = self.table.conditions(&slots).map_err(InsertError::Poll)?;
        let mut all = vec![Events::empty(); self.places.len()];
        for (&file, told) in files.iter().zip(told) {
            all[file] = told;
        }
        Ok(all)
    }
}
