//! Which tasks share an address space, an fd table, directories or signal
//! handlers.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use dormouse_kernel::HostPid;
use dormouse_kernel::kcmp::{self, Kcmp, Shared};

/// For one kind of object: which of them each task uses, numbered in the
/// order of first use.
#[derive(Debug)]
pub(crate) struct Sharing {
    numbers: BTreeMap<HostPid, usize>,
    owners: Vec<HostPid>,
}

/// A task, listed before, that most probably has the same object.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hint {
    /// None is known.
    None,
    /// The first thread of the same process.
    Thread(HostPid),
    /// The first thread of the parent.
    Child(HostPid),
}

/// Whether all threads of a process have the same, for the kernel lets none of
/// them have another: `copy_process` and `check_unshare_flags` in
/// `kernel/fork.c`.
fn always_of_process(object: Shared) -> bool {
    matches!(object, Shared::Memory | Shared::SignalHandlers)
}

impl Sharing {
    /// Compares the objects of all tasks, each against those known already,
    /// which are kept in the kernel's order: n log n calls.
    pub(crate) fn find(
        tasks: impl IntoIterator<Item = (HostPid, Hint)>,
        object: Shared,
    ) -> Result<Self, kcmp::Error> {
        let mut sharing = Self { numbers: BTreeMap::new(), owners: Vec::new() };
        let mut sorted: Vec<HostPid> = Vec::new();
        for (task, hint) in tasks {
            let number = match hint {
                Hint::Thread(first) if always_of_process(object) => sharing.numbers[&first],
                Hint::Thread(like) | Hint::Child(like)
                    if kcmp::shared(like, task, object)?.is_same() =>
                {
                    sharing.numbers[&like]
                }
                _ => match sharing.search(&sorted, task, object)? {
                    Ok(number) => number,
                    Err(at) => {
                        sorted.insert(at, task);
                        sharing.owners.push(task);
                        sharing.owners.len() - 1
                    }
                },
            };
            sharing.numbers.insert(task, number);
        }
        Ok(sharing)
    }

    fn search(
        &self,
        sorted: &[HostPid],
        task: HostPid,
        object: Shared,
    ) -> Result<Result<usize, usize>, kcmp::Error> {
        let (mut low, mut high) = (0, sorted.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            let order = match kcmp::shared(sorted[middle], task, object)? {
                Kcmp::Same => return Ok(Ok(self.numbers[&sorted[middle]])),
                Kcmp::Less => Ordering::Less,
                Kcmp::Greater | Kcmp::Different => Ordering::Greater,
            };
            if order == Ordering::Less { low = middle + 1 } else { high = middle }
        }
        Ok(Err(low))
    }

    /// The number of the object the task uses.
    pub(crate) fn number(&self, task: HostPid) -> usize {
        self.numbers[&task]
    }

    /// The first task that was found to use the object that the task uses.
    pub(crate) fn owner(&self, task: HostPid) -> HostPid {
        self.owners[self.number(task)]
    }

    /// How many tasks use each object, by number.
    pub(crate) fn users(&self) -> Vec<usize> {
        let mut users = vec![0; self.owners.len()];
        self.numbers.values().for_each(|&number| users[number] += 1);
        users
    }

    /// The first task that was found to use each object, by number.
    pub(crate) fn owners(&self) -> &[HostPid] {
        &self.owners
    }
}
