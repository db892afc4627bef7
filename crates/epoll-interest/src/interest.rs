//! What an epoll is interested in, as a value.

use std::collections::HashMap;
use std::num::NonZeroU32;

use crate::event::{Events, FdNumber};

/// One item of an epoll. Its key is the pair of [`file`](Self::file) and
/// [`fd`](Self::fd): one file can be there under several numbers, and one
/// number with several files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item<F> {
    /// The open file description that is watched, by the caller's identity.
    pub file: F,
    /// The number it had when it was added.
    pub fd: FdNumber,
    /// The mask as it is now. See [`Events::fired`].
    pub events: Events,
    /// What `epoll_wait` hands back with an event.
    pub data: u64,
    /// How many items of the same file, in this or any other epoll, were added
    /// before this one and are still there. A file that becomes ready tells
    /// its items in the order last added, first told; those with
    /// [`Events::EXCLUSIVE`] come after all others, first added, first told.
    pub seniority: u32,
    /// Files can have one wait queue together, as two that are open on one FIFO
    /// or one terminal have: then whoever becomes ready tells the items of all.
    /// If so, a number that those files' items have and no others; `seniority`
    /// counts all of these. [`SharedQueues`](crate::SharedQueues) finds them.
    pub queue: Option<NonZeroU32>,
}

impl<F> Item<F> {
    /// A one-shot that has been reported and not been armed again.
    pub fn fired(&self) -> bool {
        self.events.fired()
    }
}

/// All items of one epoll, and which of them it would report next.
///
/// An item that is *pending* stands in the kernel's ready list: the next
/// `epoll_wait` looks at it, in this order, and reports it if the file is
/// still ready. An edge-triggered item that is not pending is not reported
/// before its file signals again, however ready the file is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interest<F> {
    /// The items, in no order that matters.
    pub items: Vec<Item<F>>,
    /// Indices into [`items`](Self::items): the pending ones, first to be
    /// reported first.
    pub pending: Vec<usize>,
}

impl<F> Default for Interest<F> {
    fn default() -> Self {
        Self { items: Vec::new(), pending: Vec::new() }
    }
}

impl<F> Interest<F> {
    /// For each item, whether it is pending.
    pub fn pending_flags(&self) -> Vec<bool> {
        self.places().iter().map(Option::is_some).collect()
    }

    /// For each item, its place among those that are pending.
    fn places(&self) -> Vec<Option<usize>> {
        let places: HashMap<usize, usize> = self.pending.iter().copied().zip(0..).collect();
        (0..self.items.len()).map(|index| places.get(&index).copied()).collect()
    }

    /// Takes the items out that `choose` chooses, each with the place it had
    /// among those that were pending; the others keep their order.
    ///
    /// A signalfd is such an item: it watches the signals of the process that
    /// *added* it, so only a task of that process can insert it.
    pub fn take_out(
        &mut self,
        mut choose: impl FnMut(&Item<F>) -> bool,
    ) -> Vec<(Item<F>, Option<usize>)> {
        let places = self.places();
        let mut taken = Vec::new();
        let mut left = vec![None; self.items.len()];
        let mut kept = Vec::with_capacity(self.items.len());
        for (index, item) in std::mem::take(&mut self.items).into_iter().enumerate() {
            if choose(&item) {
                taken.push((item, places[index]));
            } else {
                left[index] = Some(kept.len());
                kept.push(item);
            }
        }
        self.items = kept;
        self.pending =
            std::mem::take(&mut self.pending).into_iter().filter_map(|index| left[index]).collect();
        taken
    }

    /// Names the files anew.
    ///
    /// # Errors
    /// The first error of `rename`.
    pub fn try_map<G, E>(
        self,
        mut rename: impl FnMut(&Item<F>) -> Result<G, E>,
    ) -> Result<Interest<G>, E> {
        let rename = |item: Item<F>| {
            let file = rename(&item)?;
            let Item { file: _, fd, events, data, seniority, queue } = item;
            Ok(Item { file, fd, events, data, seniority, queue })
        };
        let items = self.items.into_iter().map(rename).collect::<Result<_, E>>()?;
        Ok(Interest { items, pending: self.pending })
    }
}

#[cfg(test)]
mod tests {
    use super::{Interest, Item};
    use crate::event::{Events, FdNumber};

    fn item(file: char) -> Item<char> {
        let fd = FdNumber::from_raw(3);
        Item { file, fd, events: Events::IN, data: 0, seniority: 0, queue: None }
    }

    #[test]
    fn what_is_taken_out_leaves_the_rest_in_order() {
        let items = ['a', 'b', 'c', 'd'].map(item).to_vec();
        let mut interest = Interest { items, pending: vec![3, 1, 0] };
        let taken = interest.take_out(|item| "bc".contains(item.file));
        assert_eq!(taken, [(item('b'), Some(1)), (item('c'), None)]);
        assert_eq!(interest, Interest { items: vec![item('a'), item('d')], pending: vec![1, 0] });
    }
}
