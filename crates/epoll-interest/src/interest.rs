//! What an epoll is interested in, as a value.

use std::collections::HashSet;

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
        let pending: HashSet<usize> = self.pending.iter().copied().collect();
        (0..self.items.len()).map(|index| pending.contains(&index)).collect()
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
            let Item { file: _, fd, events, data, seniority } = item;
            Ok(Item { file, fd, events, data, seniority })
        };
        let items = self.items.into_iter().map(rename).collect::<Result<_, E>>()?;
        Ok(Interest { items, pending: self.pending })
    }
}
