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
//! *early*, before all others, in [`prepare`]:
//!
//! - fired one-shots, whose mask is gone: they are added waiting for anything
//!   at all, and drained, at a time when their file reports something;
//! - all items of a file, or of files with one wait queue, that would otherwise
//!   be added in another order than [`Item::seniority`](crate::Item::seniority) asks for. They are added
//!   edge-triggered, drained, and get their mask by `MOD` when their turn comes.

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
    /// `epoll_wait` for one event: the first item, known to be level-triggered
    /// and ready, goes to the end of the list.
    Rotate { epoll: usize },
}

impl Step {
    fn add(epoll: usize, item: usize, events: Events) -> Self {
        Self::Add { epoll: epoll as u32, item: item as u32, events }
    }

    fn modify(epoll: usize, item: usize, events: Events) -> Self {
        Self::Modify { epoll: epoll as u32, item: item as u32, events }
    }
}

/// What is decided for each item before the first call.
pub(crate) struct Plan {
    /// For each epoll, for each item: it is added in [`prepare`](Self::prepare).
    early: Vec<Vec<bool>>,
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

    /// Adds the early items of all epolls that hang on queues which are `chosen`.
    /// `ready` says which files report something.
    pub(crate) fn prepare(
        &self,
        graph: &Graph,
        chosen: impl Fn(usize) -> bool,
        ready: impl Fn(FileIndex) -> bool,
    ) -> Vec<Step> {
        let mut early = Vec::new();
        for (epoll, flags) in self.early.iter().enumerate() {
            let flagged = flags.iter().enumerate().filter(|(_, early)| **early);
            let items = &graph.epolls[epoll].items;
            let chosen = flagged.filter(|&(item, _)| chosen(graph.queue(&items[item])));
            early.extend(chosen.map(|(item, _)| (epoll, item)));
        }
        early.sort_by_key(|&(epoll, item)| early_order(&graph.epolls[epoll].items[item]));
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

        // After the drain exactly these are in the list, and come first, in the
        // order of their adds.
        let rotating = |item: usize| early[item] && rotates(items[item].events) && ready(item);
        let mut front: Vec<usize> = (0..items.len()).filter(|&item| rotating(item)).collect();
        front.sort_by_key(|&item| early_order(&items[item]));
        let rest = || rest.iter().map(index);
        let first = wanted.pending.iter().copied().chain(rest()).find(|&item| rotating(item));
        let ahead = front.iter().position(|&item| Some(item) == first).unwrap_or(0);
        steps.extend((0..ahead).map(|_| Step::Rotate { epoll }));
        let mut in_front = front.len();
        let mut rotate = |steps: &mut Vec<Step>, item: usize| {
            if ready(item) && in_front > 0 {
                in_front -= 1;
                steps.push(Step::Rotate { epoll });
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

/// The order in which early items are added.
fn early_order(item: &Item<FileIndex>) -> impl Ord + use<> {
    (item.seniority, item.fd, item.file)
}

/// The mask an early item has until its turn comes: nothing in it survives a
/// drain. An exclusive item has its own, as `MOD` cannot change it.
fn parked(events: Events) -> Events {
    if events.contains(Events::EXCLUSIVE) {
        events
    } else {
        (events | Events::ET) - Events::ONESHOT
    }
}

/// An exclusive level-triggered item, which no drain removes from the list.
fn rotates(events: Events) -> bool {
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
