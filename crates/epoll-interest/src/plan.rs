//! Which calls, in which order, give epolls the items they are to have, each
//! in its state. Pure.
//!
//! What the plan rests on (`fs/eventpoll.c`; shown in `docs/epoll-kernel.md`):
//!
//! - `ADD` and `MOD` put an item at the end of the ready list if its file
//!   reports anything in the item's mask, unless it is in the list already.
//! - `MOD` never takes an item out of the list, and never changes the order in
//!   which a file tells its items.
//! - `epoll_wait` takes out what is in the list: an edge-triggered item is not
//!   pending afterwards, a one-shot is fired, a level-triggered one goes to the
//!   end of the list.
//!
//! So: items that must not be pending although their file is ready are added
//! and drained first; then the pending ones are added, in their order; then
//! the rest, whose files are not ready. One call an item, and one `epoll_wait`
//! an epoll.
//!
//! Two kinds of item cannot be added where that order wants them, and come
//! *early*, before all others:
//!
//! - fired one-shots, whose mask is gone: they are added waiting for anything
//!   at all, and drained, at a time when their file reports something
//!   ([`prepare`](Plan::prepare));
//! - all items of a file, or of files with one wait queue, that would otherwise
//!   be added in another order than [`Item::seniority`](crate::Item::seniority) asks for. They are added
//!   edge-triggered, drained, and get their mask by `MOD` when their turn comes.
//!   Exclusive ones cannot be changed by `MOD`, and no drain takes a
//!   level-triggered one out of the list: those are added when all files are in
//!   their final state ([`begin`](Plan::begin)), each behind the one that it is to
//!   follow, which `epoll_wait` for as many events as stand before brings to the
//!   end. So they stand in a circle that is right wherever it begins, and each
//!   goes to the end of the list again when its turn comes.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;

use crate::event::Events;
use crate::graph::{FileIndex, Graph};
use crate::interest::Item;

/// One call of a plan. `epoll` and `item` are indices into the graph. (The kernel's limit of items,
/// `max_user_watches`, is far below 32 bits.)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// `EPOLL_CTL_ADD` with this mask.
    Add { epoll: u32, item: u32, events: Events },
    /// `EPOLL_CTL_MOD` to this mask.
    Modify { epoll: u32, item: u32, events: Events },
    /// `epoll_wait` until everything in the list was looked at once.
    Drain { epoll: usize },
    /// `epoll_wait` for this many events: the first items, known to be ready,
    /// go to the end of the list, but for edges, which leave it.
    Rotate { epoll: u32, count: u32 },
}

impl Step {
    fn add(epoll: usize, item: usize, events: Events) -> Self {
        Self::Add { epoll: epoll as u32, item: item as u32, events }
    }

    fn modify(epoll: usize, item: usize, events: Events) -> Self {
        Self::Modify { epoll: epoll as u32, item: item as u32, events }
    }

    fn rotate(epoll: usize, count: usize) -> Self {
        Self::Rotate { epoll: epoll as u32, count: count as u32 }
    }
}

/// What is decided for each item before the first call.
pub(crate) struct Plan {
    /// For each epoll, for each item: it is added in [`prepare`](Self::prepare),
    /// or, if it is exclusive, in [`begin`](Self::begin).
    early: Vec<Vec<bool>>,
}

/// For each epoll the early exclusive items in its ready list, in that order,
/// when [`Plan::begin`] was carried out.
pub(crate) struct Fronts(Vec<Front>);

/// Those of one epoll.
#[derive(Default)]
struct Front {
    list: VecDeque<usize>,
    /// The level-triggered ones, by their place among all that are to be.
    places: BTreeMap<usize, usize>,
    /// The last of these in the list.
    last: Option<usize>,
}

impl Front {
    /// How many items must be looked at for one with this place to be added
    /// behind the one that it is to follow, if not more than this.
    fn turn(&mut self, place: usize, most: usize, level: impl Fn(usize) -> bool) -> usize {
        let before = self.places.range(..place).next_back();
        let Some((_, &before)) = before.or_else(|| self.places.last_key_value()) else { return 0 };
        if self.last == Some(before) || self.list.len() > most {
            return 0;
        }
        let mut count = 0;
        while self.last != Some(before)
            && let Some(item) = self.list.pop_front()
        {
            count += 1;
            if level(item) {
                self.list.push_back(item);
                self.last = Some(item);
            }
        }
        count
    }
}

/// When an item would be added if nothing but its own epoll mattered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// Fired: before everything.
    Fired,
    /// In the turn of the epoll with this place in the order.
    InEpoll(u32, Class),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// An edge that is not pending: to be drained if the file is ready.
    Consumed,
    /// The place in the ready list.
    Pending(NonZeroU32),
    Rest,
}

impl Plan {
    pub(crate) fn new(graph: &Graph) -> Self {
        // A queue tells exclusive items after and apart from the others.
        let queue = |item: &Item<FileIndex>| {
            2 * graph.queue(item) + usize::from(item.events.contains(Events::EXCLUSIVE))
        };
        let all = graph.epolls.iter().map(|epoll| epoll.items.len()).sum();
        let mut turns: Vec<(u32, u32, Turn)> = Vec::with_capacity(all);
        for (place, &epoll) in (0..).zip(&graph.order) {
            for (item, wanted) in graph.epolls[epoll].items.iter().enumerate() {
                let turn = turn(graph, place, epoll, item);
                turns.push((queue(wanted) as u32, wanted.seniority, turn));
            }
        }
        turns.sort_unstable();
        // Adding by turns is right for a queue if it is right by seniority
        // too; within one turn the order is free.
        let mut conflict = vec![false; 2 * graph.queues()];
        for items in turns.chunk_by(|(one, ..), (next, ..)| one == next) {
            conflict[items[0].0 as usize] = !items.is_sorted_by_key(|&(.., turn)| turn);
        }
        drop(turns);
        let early = |epoll: usize| {
            let epoll = &graph.epolls[epoll];
            let items = epoll.items.iter().zip(&epoll.place);
            items
                .map(|(item, place)| {
                    // An exclusive item cannot be changed by MOD, so a pending
                    // edge on one must be added in its place.
                    let fixed = item.events.contains(Events::EXCLUSIVE | Events::ET);
                    item.fired() || (conflict[queue(item)] && !(fixed && place.is_some()))
                })
                .collect()
        };
        Self { early: (0..graph.epolls.len()).map(early).collect() }
    }

    /// The files that must report something, anything, for
    /// [`prepare`](Self::prepare) of the `chosen` queues to leave one-shots
    /// fired, each once.
    pub(crate) fn to_be_ready(
        &self,
        graph: &Graph,
        chosen: impl Fn(usize) -> bool,
    ) -> Vec<FileIndex> {
        let items = graph.epolls.iter().flat_map(|epoll| &epoll.items);
        let items = items.filter(|item| item.fired() && chosen(graph.queue(item)));
        let mut files: Vec<_> = items.map(|item| item.file).collect();
        files.sort_unstable();
        files.dedup();
        files
    }

    /// Adds the early items of all epolls that hang on queues which are `chosen`,
    /// but for exclusive ones. `ready` says which files report something.
    pub(crate) fn prepare(
        &self,
        graph: &Graph,
        chosen: impl Fn(usize) -> bool,
        ready: impl Fn(FileIndex) -> bool,
    ) -> Vec<Step> {
        let early = self.early_items(graph, |item| {
            !item.events.contains(Events::EXCLUSIVE) && chosen(graph.queue(item))
        });
        let mut drain: Vec<bool> = vec![false; graph.epolls.len()];
        let mut steps = Vec::with_capacity(early.len() + 1);
        for (epoll, item) in early {
            let wanted = &graph.epolls[epoll].items[item];
            let events = match wanted.fired() {
                true if ready(wanted.file) => wanted.events | Events::CONDITIONS,
                true => wanted.events,
                false => parked(wanted.events),
            };
            drain[epoll] |= wanted.fired();
            steps.push(Step::add(epoll, item, events));
        }
        let drained = drain.iter().enumerate().filter(|(_, drain)| **drain);
        steps.extend(drained.map(|(epoll, _)| Step::Drain { epoll }));
        steps
    }

    /// The early items that are `chosen`, by epoll and place there, in the order
    /// in which they are added.
    fn early_items(
        &self,
        graph: &Graph,
        chosen: impl Fn(&Item<FileIndex>) -> bool,
    ) -> Vec<(usize, usize)> {
        let mut early = Vec::new();
        for (epoll, flags) in self.early.iter().enumerate() {
            let items = flags.iter().zip(&graph.epolls[epoll].items).enumerate();
            let of_epoll = items.filter(|(_, (early, item))| **early && chosen(item));
            early.extend(of_epoll.map(|(item, _)| (epoll, item)));
        }
        early.sort_by_key(|&(epoll, item)| {
            let item = &graph.epolls[epoll].items[item];
            (item.seniority, item.fd, item.file)
        });
        early
    }

    fn early_exclusive(&self, graph: &Graph) -> Vec<(usize, usize)> {
        self.early_items(graph, |item| item.events.contains(Events::EXCLUSIVE))
    }

    /// The files whose conditions [`begin`](Self::begin) asks for.
    pub(crate) fn to_be_known_first(&self, graph: &Graph) -> Vec<FileIndex> {
        let early = self.early_exclusive(graph).into_iter();
        let mut files: Vec<_> =
            early.map(|(epoll, item)| graph.epolls[epoll].items[item].file).collect();
        files.sort_unstable();
        files.dedup();
        files
    }

    /// Adds the early exclusive items of all epolls. Files are in their final
    /// states, but for epolls, which such items cannot watch; `conditions` says
    /// what a file reports.
    pub(crate) fn begin(
        &self,
        graph: &Graph,
        conditions: impl Fn(FileIndex) -> Events,
    ) -> (Vec<Step>, Fronts) {
        /// How many items are looked at for each that is added. More it takes only where
        /// many hang on one queue in an order that is nothing like that of the list.
        const LOOKS: usize = 64;
        let early = self.early_exclusive(graph);
        let mut steps = Vec::with_capacity(early.len());
        let mut fronts: Vec<Front> = graph.epolls.iter().map(|_| Front::default()).collect();
        // What was parked may have been woken.
        let drained =
            self.early.iter().zip(&graph.epolls).enumerate().filter(|(_, (flags, of))| {
                let mut early = flags.iter().zip(&of.items).filter(|(early, _)| **early);
                let exclusive = |item: &Item<_>| item.events.contains(Events::EXCLUSIVE);
                early.clone().any(|(_, item)| exclusive(item))
                    && early.any(|(_, item)| !exclusive(item))
            });
        steps.extend(drained.map(|(epoll, _)| Step::Drain { epoll }));
        let places: Vec<BTreeMap<usize, usize>> = (graph.epolls.iter().zip(&self.early))
            .map(|(of, early)| {
                let late = (0..of.items.len()).filter(|&item| of.place[item].is_none());
                let all = of.pending.iter().copied().chain(late).filter(|&item| early[item]);
                all.zip(0..).collect()
            })
            .collect();
        let mut left = LOOKS * early.len();
        for (epoll, item) in early {
            let items = &graph.epolls[epoll].items;
            let Item { file, events, .. } = items[item];
            let front = &mut fronts[epoll];
            let level = |item: usize| rotates(items[item].events);
            if events.intersects(conditions(file)) {
                if level(item) {
                    let place = places[epoll][&item];
                    let count = front.turn(place, left, level);
                    left -= count;
                    if count > 0 {
                        steps.push(Step::rotate(epoll, count));
                    }
                    front.places.insert(place, item);
                    front.last = Some(item);
                }
                front.list.push_back(item);
            }
            steps.push(Step::add(epoll, item, events));
        }
        (steps, Fronts(fronts))
    }

    /// The files whose conditions [`finish`](Self::finish) asks for.
    pub(crate) fn to_be_known(&self, graph: &Graph, epoll: usize) -> Vec<FileIndex> {
        let Graph { epolls, .. } = graph;
        let epoll_items = &epolls[epoll].items;
        let pending = epolls[epoll].pending.iter().copied();
        let level_exclusive = (0..epoll_items.len())
            .filter(|&item| self.early[epoll][item] && rotates(epoll_items[item].events));
        let mut files: Vec<_> =
            pending.chain(level_exclusive).map(|item| epoll_items[item].file).collect();
        files.sort_unstable();
        files.dedup();
        files
    }

    /// Gives one epoll all its items, in their states. Those it watches are
    /// finished; `conditions` says what a file reports.
    pub(crate) fn finish(
        &self,
        graph: &Graph,
        epoll: usize,
        fronts: &Fronts,
        conditions: impl Fn(FileIndex) -> Events,
    ) -> Vec<Step> {
        let wanted = &graph.epolls[epoll];
        let items = &wanted.items;
        let early = &self.early[epoll];
        let ready = |item: usize| items[item].events.intersects(conditions(items[item].file));
        let mut steps = Vec::with_capacity(items.len() + 1);

        let mut later: Vec<u32> =
            (0..items.len() as u32).filter(|&at| !pending(graph, epoll, at as usize)).collect();
        later.sort_unstable_by_key(|&at| {
            let item = &items[at as usize];
            (!consumed(item.events), item.seniority, item.fd, at)
        });
        let is_consumed = |&at: &u32| consumed(items[at as usize].events);
        let (consumed, rest) = later.split_at(later.partition_point(is_consumed));
        let index = |&at: &u32| at as usize;
        let add = |item: usize| Step::add(epoll, item, items[item].events);
        let modify = |item: usize| Step::modify(epoll, item, items[item].events);

        let added = consumed.iter().map(index).filter(|&item| !early[item]);
        steps.extend(added.map(add));
        let parked_here = (0..items.len()).any(|item| early[item] && !items[item].fired());
        if parked_here || !steps.is_empty() {
            steps.push(Step::Drain { epoll });
        }

        // After the drain exactly these are in the list.
        let rotating = |item: usize| early[item] && rotates(items[item].events);
        let front: Vec<usize> =
            fronts.0[epoll].list.iter().copied().filter(|&item| rotating(item)).collect();
        let rest = || rest.iter().map(index);
        let in_turn = wanted.pending.iter().copied().chain(rest());
        let first = in_turn.filter(|&item| rotating(item)).find(|&item| ready(item));
        let ahead = front.iter().position(|&item| Some(item) == first).unwrap_or(0);
        if ahead > 0 {
            steps.push(Step::rotate(epoll, ahead));
        }
        let mut in_front = front.len();
        let mut rotate = |steps: &mut Vec<Step>, item: usize| {
            if ready(item) && in_front > 0 {
                in_front -= 1;
                steps.push(Step::rotate(epoll, 1));
            }
        };
        for &item in wanted.pending.iter().filter(|&&item| !items[item].fired()) {
            let events = items[item].events;
            // Not ready, and yet pending: MOD does not take it out again.
            let forced = !ready(item) && !conditions(items[item].file).is_empty();
            match (events.contains(Events::EXCLUSIVE), early[item]) {
                (true, true) => rotate(&mut steps, item),
                (true, false) => steps.push(add(item)),
                (false, early) => {
                    let any = events | Events::CONDITIONS;
                    match (forced, early) {
                        (true, true) => steps.push(Step::modify(epoll, item, any)),
                        (true, false) => steps.push(Step::add(epoll, item, any)),
                        (false, false) => steps.push(add(item)),
                        (false, true) => {}
                    }
                    if forced || early {
                        steps.push(modify(item));
                    }
                }
            }
        }
        for item in rest() {
            match early[item] {
                false => steps.push(add(item)),
                true if items[item].fired() => {}
                true if rotates(items[item].events) => rotate(&mut steps, item),
                true => steps.push(modify(item)),
            }
        }
        steps
    }
}

/// The mask an early item has until its turn comes, if it is not exclusive:
/// nothing in it survives a drain.
fn parked(events: Events) -> Events {
    (events | Events::ET) - Events::ONESHOT
}

/// An exclusive level-triggered item, which no drain removes from the list.
pub(crate) fn rotates(events: Events) -> bool {
    events.contains(Events::EXCLUSIVE) && !events.contains(Events::ET)
}

/// What an edge-triggered item is that is not pending, if it is no one-shot
/// (which is fired by being reported).
fn consumed(events: Events) -> bool {
    events.contains(Events::ET) && !events.contains(Events::ONESHOT)
}

/// In the list, and reported from there. (The kernel can leave a one-shot that
/// has just fired in the list, where the next `epoll_wait` drops it.)
fn pending(graph: &Graph, epoll: usize, item: usize) -> bool {
    let epoll = &graph.epolls[epoll];
    epoll.place[item].is_some() && !epoll.items[item].fired()
}

fn turn(graph: &Graph, place: u32, epoll: usize, item: usize) -> Turn {
    let wanted = &graph.epolls[epoll];
    let events = wanted.items[item].events;
    match wanted.place[item] {
        _ if events.fired() => Turn::Fired,
        Some(position) => Turn::InEpoll(place, Class::Pending(position)),
        None if consumed(events) => Turn::InEpoll(place, Class::Consumed),
        None => Turn::InEpoll(place, Class::Rest),
    }
}
