//! One order for the items of files that share wait queues. Pure.
//!
//! An item can hang on several queues (a terminal has one to read and one to
//! write), so files are taken together that share one directly or by others,
//! and the orders of their queues are merged: an item is hung on all of its at
//! once, so there is an order in which all were added.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use crate::event::FdNumber;
use crate::graph::Edges;
use crate::inspect::{Place, SharedQueues};
use crate::interest::{Interest, Item};

/// What decides where the queues leave the order open.
type Key<F> = (u32, F, FdNumber, Place);

impl SharedQueues {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Gives the items on these queues a number of their queue, and their
    /// seniority there. `interests` are those of the epolls that were searched, in
    /// the same order; `None` stands for one that is of no interest any more.
    pub fn order<F: Ord + Copy>(&self, interests: &mut [Option<&mut Interest<F>>]) {
        let file = |interests: &[Option<&mut Interest<F>>], (epoll, item): Place| -> Option<F> {
            let interest = interests.get(epoll as usize)?.as_ref()?;
            Some(interest.items.get(item as usize)?.file)
        };
        let mut groups = Groups::default();
        for queue in &self.queues {
            let mut files = queue.iter().filter_map(|&place| file(interests, place));
            if let Some(first) = files.next() {
                files.for_each(|file| groups.join(first, file));
            }
        }
        let numbers = groups.numbers();
        if numbers.is_empty() {
            return;
        }
        let places = (0..).zip(interests.iter()).flat_map(|(epoll, interest)| {
            let items = interest.iter().flat_map(|interest| &interest.items);
            (0..).zip(items).map(move |(index, item)| ((epoll, index), item))
        });
        let of_groups = places.filter(|(_, item)| numbers.contains_key(&item.file));
        let key = |(place, item): (Place, &Item<F>)| (item.seniority, item.file, item.fd, place);
        let mut keys: Vec<Key<F>> = of_groups.map(key).collect();
        keys.sort_unstable_by_key(|&(.., place)| place);
        let mut ranks: BTreeMap<NonZeroU32, u32> = BTreeMap::new();
        for node in self.merge(&keys) {
            let (_, file, _, (epoll, item)) = keys[node];
            let queue = numbers[&file];
            let rank = ranks.entry(queue).or_default();
            if let Some(Some(interest)) = interests.get_mut(epoll as usize) {
                let item = &mut interest.items[item as usize];
                (item.queue, item.seniority) = (Some(queue), *rank);
            }
            *rank += 1;
        }
    }

    /// All of them, by index, so that each comes after those that were added
    /// before, as far as that goes: of two that are added at one time, each can
    /// be the first on one queue.
    fn merge<F: Ord + Copy>(&self, keys: &[Key<F>]) -> Vec<usize> {
        let node = |place: &Place| keys.binary_search_by_key(place, |&(.., place)| place).ok();
        let mut edges = Edges::new(keys.len());
        for queue in &self.queues {
            let nodes: Vec<_> = queue.iter().filter_map(node).collect();
            for pair in nodes.windows(2) {
                edges.add(pair[0], pair[1]);
            }
        }
        let mut left: BTreeSet<(Key<F>, usize)> = keys.iter().copied().zip(0..).collect();
        let mut free = left.clone();
        free.retain(|&(_, node)| edges.before[node] == 0);
        let mut order = Vec::with_capacity(keys.len());
        while let Some(&next) = free.first().or(left.first()) {
            free.remove(&next);
            left.remove(&next);
            order.push(next.1);
            for node in edges.take(next.1) {
                let after = (keys[node], node);
                if edges.before[node] == 0 && left.contains(&after) {
                    free.insert(after);
                }
            }
        }
        order
    }
}

/// Files that belong together.
struct Groups<F>(BTreeMap<F, F>);

impl<F> Default for Groups<F> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<F: Ord + Copy> Groups<F> {
    /// The least of a file's group.
    fn least(&mut self, file: F) -> F {
        let mut least = file;
        while let Some(&less) = self.0.get(&least)
            && less != least
        {
            least = less;
        }
        // Whoever asks again is there at once.
        let mut at = file;
        while at != least {
            at = self.0.insert(at, least).unwrap_or(least);
        }
        least
    }

    fn join(&mut self, one: F, other: F) {
        let (one, other) = (self.least(one), self.least(other));
        self.0.insert(one.max(other), one.min(other));
        self.0.entry(one.min(other)).or_insert(one.min(other));
    }

    /// A number for the group of each file that has others in it.
    fn numbers(mut self) -> BTreeMap<F, NonZeroU32> {
        let files: Vec<F> = self.0.keys().copied().collect();
        let mut numbers: BTreeMap<F, NonZeroU32> = BTreeMap::new();
        let mut next = NonZeroU32::MIN;
        for file in files {
            // The least comes first.
            let number = numbers.get(&self.least(file)).copied().unwrap_or_else(|| {
                let number = next;
                next = next.saturating_add(1);
                number
            });
            numbers.insert(file, number);
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::{FdNumber, Interest, Item, SharedQueues};
    use crate::event::Events;

    /// One epoll with an item for each of these files, each the first of its file.
    fn interest(files: &str) -> Interest<char> {
        let (fd, events) = (FdNumber::from_raw(3), Events::IN);
        let item = |file| Item { file, fd, events, data: 0, seniority: 0, queue: None };
        Interest { items: files.chars().map(item).collect(), pending: Vec::new() }
    }

    /// The files of each queue in the order that comes of these ones.
    fn ordered(files: &str, queues: &[&[u32]]) -> Vec<String> {
        let place = |&item: &u32| (0, item);
        let queues = queues.iter().map(|items| items.iter().map(place).collect()).collect();
        let mut interest = interest(files);
        SharedQueues { queues }.order(&mut [Some(&mut interest)]);
        let mut items = interest.items;
        items.retain(|item| item.queue.is_some());
        items.sort_by_key(|item| (item.queue, item.seniority));
        let queues = items.chunk_by(|one, next| one.queue == next.queue);
        queues.map(|items| items.iter().map(|item| item.file).collect()).collect()
    }

    #[test]
    fn queues_that_some_hang_on_together_are_merged() {
        assert_eq!(ordered("abcdef", &[&[3, 1], &[1, 0], &[5, 2]]), ["dba", "fc"]);
        assert_eq!(ordered("abc", &[&[0, 1], &[2, 0]]), ["cab"]);
        assert_eq!(ordered("abc", &[]), [""; 0]);
    }

    #[test]
    fn orders_that_contradict_each_other_end() {
        assert_eq!(ordered("abc", &[&[0, 1], &[1, 0], &[1, 2]]), ["abc"]);
    }
}
