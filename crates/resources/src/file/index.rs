//! Which descriptors are one open file description.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use dormouse_kernel::proc::Extra;
use dormouse_kernel::{FdNum, HostPid};
use rustix::fs::{FileType, OFlags};

use super::{FileId, KernelFileId, Sighting};
use crate::Error;

/// Where a descriptor is: a task, and the number in its fd table.
pub type Place = (HostPid, FdNum);

/// What [`FileIndex::identify`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Seen for the first time.
    New(FileId),
    /// Seen before.
    Known(FileId),
}

impl Identity {
    /// The number, new or not.
    #[must_use]
    pub const fn id(self) -> FileId {
        match self {
            Self::New(id) | Self::Known(id) => id,
        }
    }
}

/// Gives every open file description its number, so that two descriptors
/// have the same number exactly if they are one.
///
/// What can never change during the life of a description tells most of them
/// apart; the rest the kernel compares. Its order is total, so that n
/// descriptions on one inode take n log n comparisons. A descriptor that was
/// inherited by fork, and so has the number its original has, takes one.
#[derive(Debug)]
pub struct FileIndex {
    groups: HashMap<Key, Group>,
    by_kernel: HashMap<KernelFileId, FileId>,
    next: u32,
}

/// What two descriptors of one description always have in common. (Position,
/// status flags and name do not belong here: others may change them between
/// two looks.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    device: u64,
    inode: u64,
    mount: i32,
    access: OFlags,
    eventfd: Option<u32>,
}

impl Key {
    fn new(sighting: &Sighting) -> Self {
        let Sighting { link: _, stat, info } = sighting;
        let eventfd = match info.extra {
            Extra::Eventfd { id, .. } => id,
            _ => None,
        };
        let access = info.flags & (OFlags::ACCMODE | OFlags::PATH);
        Self { device: stat.st_dev, inode: stat.st_ino, mount: info.mount_id, access, eventfd }
    }

    /// Whether nothing but one description can have this key: a socket or an
    /// eventfd cannot be opened a second time, and each has its number. (By
    /// `O_PATH` a socket can.)
    fn decides(&self, sighting: &Sighting) -> bool {
        let socket = FileType::from_raw_mode(sighting.stat.st_mode) == FileType::Socket;
        self.eventfd.is_some() || socket && !self.access.contains(OFlags::PATH)
    }
}

/// Descriptions with the same key.
#[derive(Debug, Default)]
struct Group {
    /// In the kernel's order, with a place where each was seen.
    sorted: Vec<(Place, FileId)>,
    /// By the number of a descriptor, the description that had it last.
    by_number: HashMap<FdNum, (Place, FileId)>,
}

impl Default for FileIndex {
    fn default() -> Self {
        Self::new()
    }
}

impl FileIndex {
    /// Knows no file. The first will get number 1.
    #[must_use]
    pub fn new() -> Self {
        Self { groups: HashMap::new(), by_kernel: HashMap::new(), next: 1 }
    }

    /// Which open file description the descriptor at `place` stands for.
    /// `compare` orders two of them as `kcmp(2)` does.
    ///
    /// # Errors
    /// Those of `compare`.
    pub fn identify<E>(
        &mut self,
        place: Place,
        sighting: &Sighting,
        mut compare: impl FnMut(Place, Place) -> Result<Ordering, E>,
    ) -> Result<Identity, E> {
        let key = Key::new(sighting);
        let group = self.groups.entry(key).or_default();
        if key.decides(sighting) {
            if let Some(&(_, id)) = group.sorted.first() {
                return Ok(Identity::Known(id));
            }
        } else if let Some(&(other, id)) = group.by_number.get(&place.1)
            && (other == place || compare(place, other)?.is_eq())
        {
            return Ok(Identity::Known(id));
        }
        let identity = match search(&group.sorted, |other| compare(other, place))? {
            Ok(index) => Identity::Known(group.sorted[index].1),
            Err(index) => {
                let id = FileId::from_raw(self.next);
                self.next += 1;
                group.sorted.insert(index, (place, id));
                Identity::New(id)
            }
        };
        group.by_number.insert(place.1, (place, identity.id()));
        Ok(identity)
    }

    /// The same for a descriptor that is going to be closed if it is known:
    /// its place may soon be that of another.
    ///
    /// # Errors
    /// Those of `compare`.
    pub fn identify_passing<E>(
        &mut self,
        place: Place,
        sighting: &Sighting,
        compare: impl FnMut(Place, Place) -> Result<Ordering, E>,
    ) -> Result<Identity, E> {
        let group = self.groups.entry(Key::new(sighting)).or_default();
        let before = group.by_number.remove(&place.1);
        let identity = self.identify(place, sighting, compare)?;
        if let Identity::Known(_) = identity {
            let group = self.groups.entry(Key::new(sighting)).or_default();
            group.by_number.remove(&place.1);
            if let Some(before) = before {
                group.by_number.insert(place.1, before);
            }
        }
        Ok(identity)
    }

    /// The same by what the kernel itself knows a file by. All files of a dump are
    /// told apart in this way, or none.
    pub fn identify_known(&mut self, file: KernelFileId) -> Identity {
        debug_assert!(self.groups.is_empty(), "one way or the other");
        match self.by_kernel.entry(file) {
            Entry::Occupied(known) => Identity::Known(*known.get()),
            Entry::Vacant(place) => {
                let id = FileId::from_raw(self.next);
                self.next += 1;
                Identity::New(*place.insert(id))
            }
        }
    }

    /// A number for a file that no descriptor stands for.
    pub fn fresh(&mut self) -> FileId {
        let id = FileId::from_raw(self.next);
        self.next += 1;
        id
    }
}

/// Binary search with a comparison that can fail.
fn search<E>(
    sorted: &[(Place, FileId)],
    mut compare: impl FnMut(Place) -> Result<Ordering, E>,
) -> Result<Result<usize, usize>, E> {
    let (mut low, mut high) = (0, sorted.len());
    while low < high {
        let middle = low + (high - low) / 2;
        match compare(sorted[middle].0)? {
            Ordering::Less => low = middle + 1,
            Ordering::Equal => return Ok(Ok(middle)),
            Ordering::Greater => high = middle,
        }
    }
    Ok(Err(low))
}

/// The comparison that [`FileIndex::identify`] wants, by the kernel.
///
/// # Errors
/// One of the tasks is gone or may not be traced; or the kernel does not
/// order files (all do so far).
pub fn compare(first: Place, second: Place) -> Result<Ordering, Error> {
    let order = dormouse_kernel::kcmp::files(first, second)?;
    order.ordering().ok_or_else(|| Error::Kernel {
        call: "kcmp",
        subject: format!("descriptors {} and {}", first.1, second.1).into(),
        source: rustix::io::Errno::INVAL,
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashMap;
    use std::convert::Infallible;

    use dormouse_kernel::proc::ProcDir;
    use dormouse_kernel::{FdNum, HostPid};
    use proptest::prelude::*;

    use super::{FileIndex, Identity, Place};
    use crate::file::{FileId, Sighting};

    /// What `/proc` could say of a file on this inode.
    fn sighting(inode: u64) -> Sighting {
        let proc = ProcDir::of_self().unwrap();
        let mut sighting = Sighting::of_fd(&proc, FdNum::from_raw(0)).unwrap();
        sighting.stat.st_ino = inode;
        sighting
    }

    fn place(task: i32, fd: u32) -> Place {
        (HostPid::from_raw(task).unwrap(), FdNum::from_raw(fd))
    }

    /// Runs the index over descriptors, each with the inode and the address of
    /// its description. Gives their numbers and how many comparisons it took.
    fn identify(descriptors: &[(Place, u64, u64)]) -> (Vec<Identity>, usize) {
        let addresses: HashMap<Place, u64> =
            descriptors.iter().map(|&(place, _, address)| (place, address)).collect();
        let sightings: HashMap<u64, Sighting> =
            descriptors.iter().map(|&(_, inode, _)| (inode, sighting(inode))).collect();
        let compared = Cell::new(0);
        let compare = |one: Place, other: Place| {
            compared.set(compared.get() + 1);
            Ok::<_, Infallible>(addresses[&one].cmp(&addresses[&other]))
        };
        let mut index = FileIndex::new();
        let identities = descriptors
            .iter()
            .map(|(place, inode, _)| index.identify(*place, &sightings[inode], compare).unwrap())
            .collect();
        (identities, compared.get())
    }

    proptest! {
        /// Two descriptors have one number exactly if they are one
        /// description; the first of each is new; numbers count up.
        #[test]
        fn numbers_are_descriptions(
            found in prop::collection::btree_map((1..6, 0_u32..20), 0_u64..30, 0..80),
        ) {
            let found: Vec<_> = found
                .into_iter()
                .map(|((task, fd), address)| {
                    // Three inodes, and addresses in no order.
                    (place(task, fd), address % 3, address.wrapping_mul(0x9e37_79b9_7f4a_7c15))
                })
                .collect();
            let (identities, _) = identify(&found);
            let mut numbers = HashMap::new();
            for ((_, _, address), identity) in found.iter().zip(identities) {
                let next = FileId::from_raw(numbers.len() as u32 + 1);
                let wanted = match numbers.get(address) {
                    Some(&number) => Identity::Known(number),
                    None => Identity::New(next),
                };
                numbers.entry(address).or_insert(next);
                prop_assert_eq!(identity, wanted);
            }
        }
    }

    #[test]
    fn many_descriptions_of_one_inode_take_few_comparisons() {
        let many: Vec<_> = (0..10_000)
            .map(|fd| (place(1, fd), 0, u64::from(fd).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .collect();
        let (identities, compared) = identify(&many);
        assert!(identities.iter().all(|identity| matches!(identity, Identity::New(_))));
        assert!(compared <= 10_000 * 14, "{compared}");
    }

    #[test]
    fn an_inherited_descriptor_takes_one_comparison() {
        let parent = (0..1000).map(|fd| (place(1, fd), 0, u64::from(fd)));
        let (_, alone) = identify(&parent.clone().collect::<Vec<_>>());
        let child = (0..1000).map(|fd| (place(2, fd), 0, u64::from(fd)));
        let (identities, both) = identify(&parent.chain(child).collect::<Vec<_>>());
        assert_eq!(both - alone, 1000);
        assert!(identities[1000..].iter().all(|one| matches!(one, Identity::Known(_))));
    }
}
