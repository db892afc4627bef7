//! What the kernel takes back of a task's operations on System V semaphores when it ends.
//!
//! Tasks made with `CLONE_SYSVSEM`, as threads are, have it in common; it is taken back when the
//! last of them ends. So it is when a dump kills them: the operations are made again at restore.
//!
//! - Kernel object: `struct sem_undo`, `task_struct.sysvsem`
//! - Truth from: kernel memory, `ipc/sem.c`, read by the engine for all tasks at once
//! - Image: `core-TID.img`, `thread_core.{semaphore_undo, undo_tid}`; only dormouse has it
//! - Apply: `semop(2)` with `SEM_UNDO`
//! - Not preserved: the set itself, which belongs to no process and has to be there; who has
//!   operated last, and when
//! - Scenarios: `sysv::undo`, `sysv::undo_shared`

use std::collections::BTreeMap;

use dormouse_image::proto::core::{CoreEntry, SemaphoreUndoEntry};
use dormouse_kernel::semaphore::{self, MOST, Set, SetId};
use dormouse_puppet::Batch;

use super::refusal::Refusal;
use crate::corrupt::corrupt_core;
use crate::{Error, Result};

/// What is added to one semaphore when the tasks end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Adjustment {
    set: SetId,
    /// The key of the set and how many semaphores it has, which tell it from
    /// another that has got its number on another machine.
    key: u32,
    len: u32,
    semaphore: u16,
    by: i16,
}

/// All adjustments of a task, or of several that have them in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SemaphoreUndo(Vec<Adjustment>);

/// As many operations as one call can make (`SEMOPM`).
const AT_ONCE: usize = 500;

/// `struct sembuf`.
const OPERATION: usize = 6;

impl SemaphoreUndo {
    /// Notes what the kernel remembers for one set, semaphore by semaphore.
    pub fn note(&mut self, id: SetId, set: &Set, adjustments: impl IntoIterator<Item = i16>) {
        let len = u32::try_from(set.values.len()).expect("SEMMSL is small");
        for (semaphore, by) in (0..).zip(adjustments).filter(|(_, by)| *by != 0) {
            self.0.push(Adjustment { set: id, key: set.key, len, semaphore, by });
        }
    }

    /// Writes it to the image of the first task that has it.
    pub fn encode(&self, core: &mut CoreEntry) {
        let entry = |adjustment: &Adjustment| {
            let Adjustment { set, key, len, semaphore, by } = *adjustment;
            SemaphoreUndoEntry {
                set: set.as_raw().cast_unsigned(),
                key,
                len,
                semaphore: semaphore.into(),
                by: by.into(),
            }
        };
        core.thread_core.get_or_insert_default().semaphore_undo =
            self.0.iter().map(entry).collect();
    }

    /// Reads it back and judges it.
    ///
    /// # Errors
    ///
    /// It is none that the kernel could have.
    pub fn decode(core: &CoreEntry) -> Result<Self> {
        let bad = || corrupt_core("semaphore undo", "no such adjustment");
        let entries = core.thread_core.as_ref().map_or(&[][..], |thread| &thread.semaphore_undo);
        let adjustment = |entry: &SemaphoreUndoEntry| {
            let set = SetId::from_raw(i32::try_from(entry.set).ok()?)?;
            let semaphore = u16::try_from(entry.semaphore).ok()?;
            let by = i16::try_from(entry.by).ok().filter(|by| by.checked_neg().is_some())?;
            Some(Adjustment { set, key: entry.key, len: entry.len, semaphore, by })
        };
        entries
            .iter()
            .map(|entry| adjustment(entry).ok_or_else(bad))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Adds the calls that make the operations again.
    pub fn apply(&self, batch: &mut Batch) {
        let flags = (libc::SEM_UNDO | libc::IPC_NOWAIT) as i16;
        for of_set in self.0.chunk_by(|one, next| one.set == next.set) {
            for some in of_set.chunks(AT_ONCE) {
                let mut operations = Vec::with_capacity(some.len() * OPERATION);
                for adjustment in some {
                    operations.extend(adjustment.semaphore.to_ne_bytes());
                    operations.extend((-adjustment.by).to_ne_bytes());
                    operations.extend(flags.to_ne_bytes());
                }
                let operations = batch.data(&operations);
                let set = of_set[0].set.as_raw();
                batch.call(
                    libc::SYS_semop,
                    [set.into(), operations.into(), (some.len() as u64).into()],
                );
            }
        }
    }

    /// Whether the kernel can take everything back without cutting it off at
    /// the least or the greatest value: else the values would be others when
    /// the operations are made again.
    ///
    /// # Errors
    ///
    /// Which semaphore it is.
    pub fn check_undo<'a>(all: impl IntoIterator<Item = &'a Self>) -> Result<()> {
        check(all, 1, |set, semaphore| {
            Refusal::UndoneValue.error(format!("of semaphore {semaphore} in set {set}"))
        })
    }

    /// Whether all operations can be made again.
    ///
    /// # Errors
    ///
    /// A set is not there or another, or a semaphore has been taken meanwhile.
    pub fn check<'a>(all: impl IntoIterator<Item = &'a Self>) -> Result<()> {
        check(all, -1, |set, semaphore| {
            Refusal::TakenUndo.error(format!("on semaphore {semaphore} in set {set}"))
        })
    }
}

/// Whether the semaphores can take all adjustments, times `sign`.
fn check<'a>(
    all: impl IntoIterator<Item = &'a SemaphoreUndo>,
    sign: i64,
    refuse: impl Fn(SetId, u16) -> Error,
) -> Result<()> {
    let mut sets: BTreeMap<SetId, Set> = BTreeMap::new();
    let mut sums: BTreeMap<(SetId, u16), (i64, i64)> = BTreeMap::new();
    for adjustment in all.into_iter().flat_map(|undo| &undo.0) {
        let Adjustment { set: id, key, len, semaphore, by } = *adjustment;
        let missing = || Refusal::MissingSemaphores.error(format!("in set {id}"));
        let set = match sets.entry(id) {
            std::collections::btree_map::Entry::Occupied(set) => set.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(semaphore::look(id).map_err(|_| missing())?)
            }
        };
        let same = set.key == key && set.values.len() == len as usize && u32::from(semaphore) < len;
        if !same {
            return Err(missing());
        }
        let (less, more) = sums.entry((id, semaphore)).or_default();
        let by = i64::from(by) * sign;
        *(if by < 0 { less } else { more }) += by;
    }
    for ((id, semaphore), (less, more)) in sums {
        let value = i64::from(sets[&id].values[usize::from(semaphore)]);
        if value + less < 0 || value + more > i64::from(MOST) {
            return Err(refuse(id, semaphore));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_comes_back() {
        let mut undo = SemaphoreUndo::default();
        let set = Set { key: 7, values: vec![0; 4] };
        undo.note(SetId::from_raw(3).unwrap(), &set, [0, 5, -3, 0]);
        let mut core = CoreEntry::default();
        undo.encode(&mut core);
        assert_eq!(SemaphoreUndo::decode(&core).unwrap(), undo);
        core.thread_core.as_mut().unwrap().semaphore_undo[0].by = i16::MIN.into();
        assert!(SemaphoreUndo::decode(&core).is_err(), "it cannot be made again");
    }
}
