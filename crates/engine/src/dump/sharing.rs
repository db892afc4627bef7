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

impl Sharing {
    /// Compares the objects of all tasks, each against those known already,
    /// which are kept in the kernel's order: n log n calls. `hint` names
    /// another task that most probably has the same object, such as the
    /// leader for a thread.
    pub(crate) fn find(
        tasks: impl IntoIterator<Item = (HostPid, Option<HostPid>)>,
        object: Shared,
    ) -> Result<Self, kcmp::Error> {
        let mut sharing = Self { numbers: BTreeMap::new(), owners: Vec::new() };
        let mut sorted: Vec<HostPid> = Vec::new();
        for (task, hint) in tasks {
            let number = match hint {
                Some(hint) if kcmp::shared(hint, task, object)?.is_same() => sharing.numbers[&hint],
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

    /// The first task that was found to use each object, by number.
    pub(crate) fn owners(&self) -> &[HostPid] {
        &self.owners
    }
}
