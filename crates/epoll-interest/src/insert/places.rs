//! Which number of the private table holds which file.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;

use crate::event::FdNumber;
use crate::graph::FileIndex;
use crate::table::{MOST_RIGHTS, PrivateTable, Slot};

/// The number of a key as a slot of the table; the kernel has none above
/// `i32::MAX`, and says so.
pub(super) fn slot(fd: FdNumber) -> Slot {
    Slot::try_from(fd.as_raw()).unwrap_or(-1)
}

/// Every file has a *home*, a number that holds it until it is not needed any
/// more, and copies under the numbers of its items, which nobody misses.
pub(super) struct Places {
    home: Vec<Slot>,
    /// How often each file is still needed.
    uses: Vec<usize>,
    /// What is known of each number.
    held: Vec<Option<Held>>,
    /// Numbers that held a file which is not needed there any more. Some have
    /// been taken again since.
    free: Vec<Slot>,
}

#[derive(Clone, Copy)]
struct Held {
    file: FileIndex,
    home: bool,
}

impl Places {
    /// `homes` are the numbers the files have when the table is new, if any.
    pub(super) fn new(
        table: &mut PrivateTable,
        homes: Vec<Option<Slot>>,
        uses: Vec<usize>,
    ) -> io::Result<Self> {
        let home = homes.iter().map(|home| home.unwrap_or(-1)).collect();
        let mut places = Self { home, uses, held: Vec::new(), free: Vec::new() };
        for (file, home) in homes.into_iter().enumerate() {
            let Some(home) = home else { continue };
            let shared = places.held(home).is_some();
            // Two identities of one number: each is to have a home of its own.
            let home = if shared { table.copy(home)? } else { home };
            places.settle(file, home);
        }
        Ok(places)
    }

    /// Gives files that the private table holds under `homes` the numbers of their items, as far as one
    /// number is wanted by one file: [`put`](Self::put) has nothing to do for those. Only if that is many.
    pub(super) fn gather(
        table: &mut PrivateTable,
        homes: &mut [Option<Slot>],
        items: impl Iterator<Item = (FileIndex, FdNumber)>,
    ) -> io::Result<()> {
        const FEWEST: usize = 16;
        /// What a socket takes by default, and half of that again.
        const MOST: usize = 128 * MOST_RIGHTS;
        let mut wanted = BTreeMap::new();
        let mut is_placed = vec![false; homes.len()];
        for (file, number) in items {
            let Ok(number) = usize::try_from(slot(number)) else { continue };
            if homes[file].is_none() || is_placed[file] {
                continue;
            }
            if let Entry::Vacant(place) = wanted.entry(number) {
                place.insert(file);
                is_placed[file] = true;
            }
        }
        let Some((&last, &filler)) = wanted.last_key_value() else { return Ok(()) };
        let others = (0..homes.len()).filter(|&file| !is_placed[file] && homes[file].is_some());
        let others: Vec<_> = others.collect();
        let is_dense = last <= 4 * wanted.len() && last + others.len() < MOST;
        if wanted.len() < FEWEST || !is_dense {
            return Ok(());
        }
        let numbers = (0..=last).map(|number| wanted.get(&number).copied());
        let order: Vec<_> = numbers.chain(others.into_iter().map(Some)).collect();
        let now = order.iter().filter_map(|&file| homes[file.unwrap_or(filler)]);
        if table.lay_out(&now.collect::<Vec<_>>())? {
            for (home, file) in (0..).zip(order) {
                if let Some(file) = file {
                    homes[file] = Some(home);
                }
            }
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.home.len()
    }

    /// A number that holds the file.
    pub(super) fn home(&self, file: FileIndex) -> Slot {
        self.home[file]
    }

    /// Puts the file under a number as well.
    pub(super) fn put(
        &mut self,
        table: &mut PrivateTable,
        file: FileIndex,
        fd: FdNumber,
    ) -> io::Result<()> {
        let at = slot(fd);
        match self.held(at) {
            Some(held) if held.file == file => return Ok(()),
            Some(Held { file: other, home: true }) if self.uses[other] > 0 => {
                let to = self.vacant(table, at)?;
                self.settle(other, to);
            }
            _ => {}
        }
        table.copy_to(self.home[file], at)?;
        self.hold(at, Held { file, home: false });
        Ok(())
    }

    /// The file is needed once less often.
    pub(super) fn done(&mut self, file: FileIndex) {
        self.uses[file] = self.uses[file].saturating_sub(1);
        if self.uses[file] == 0 {
            self.free.push(self.home[file]);
        }
    }

    /// A number that holds what `from` holds and nobody else needs.
    fn vacant(&mut self, table: &mut PrivateTable, from: Slot) -> io::Result<Slot> {
        while let Some(free) = self.free.pop() {
            let needed = self.held(free).is_some_and(|held| held.home && self.uses[held.file] > 0);
            if !needed && free != from {
                table.copy_to(from, free)?;
                return Ok(free);
            }
        }
        table.copy(from)
    }

    fn settle(&mut self, file: FileIndex, home: Slot) {
        self.home[file] = home;
        self.hold(home, Held { file, home: true });
    }

    fn held(&self, at: Slot) -> Option<Held> {
        usize::try_from(at).ok().and_then(|at| self.held.get(at).copied().flatten())
    }

    fn hold(&mut self, at: Slot, held: Held) {
        let Ok(at) = usize::try_from(at) else { return };
        if self.held.len() <= at {
            self.held.resize(at + 1, None);
        }
        self.held[at] = Some(held);
    }
}
