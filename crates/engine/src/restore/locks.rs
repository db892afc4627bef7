//! Locks, taken by those who held them.

use std::collections::BTreeMap;

use dormouse_kernel::NsPid;
use dormouse_kernel::signal::Signal;
use dormouse_puppet::Batch;
use dormouse_resources::file::{CreatedFiles, FdTable, FdTableId, FileRef, Lock};

use super::decode::{Checkpoint, Process, contradiction, host};
use super::endings::forget_child;
use super::world::World;
use crate::cause::{At, Cause};
use crate::{Error, Phase};

/// Finds the file that each lock is on.
pub(super) fn find(
    locks: Vec<Lock>,
    processes: &[Process],
    tables: &BTreeMap<FdTableId, FdTable>,
) -> Result<Vec<(Lock, FileRef)>, Cause> {
    let bodies = processes.iter().filter_map(|process| process.body.as_ref());
    let threads = bodies.flat_map(|body| &body.threads);
    let of_task: BTreeMap<_, _> =
        threads.map(|thread| (thread.tid, &tables[&thread.table])).collect();
    let place = |lock: Lock| {
        let file = of_task.get(&lock.task)?.file(lock.fd)?;
        Some((lock, file))
    };
    let missing = || {
        let reason = "a lock is held by a task or a descriptor that is not there";
        contradiction(dormouse_image::ImageName::FileLocks, reason)
    };
    locks.into_iter().map(|lock| place(lock).ok_or_else(missing)).collect()
}

/// Has all of them taken; of one task, in one batch.
pub(super) fn take(
    world: &mut World,
    checkpoint: &Checkpoint,
    created: &CreatedFiles<'_>,
) -> Result<(), Error> {
    const PHASE: Phase = Phase::Threads;
    let flags = |file: FileRef| checkpoint.files.get(file).status().flags();
    let mut by_task: BTreeMap<NsPid, Vec<&(Lock, FileRef)>> = BTreeMap::new();
    for held in &checkpoint.locks {
        by_task.entry(held.0.task).or_default().push(held);
    }
    for (&task, locks) in &by_task {
        let mut batch = Batch::new();
        for (lock, file) in locks {
            lock.take(&mut batch, flags(*file));
        }
        world.run(task, batch).of(PHASE, host(task))?;
        for (lock, file) in locks {
            break_lease(world, lock, created, *file).of_fd(PHASE, host(task), Some(lock.fd))?;
        }
    }
    Ok(())
}

/// Breaks a lease that was being broken. That its holder is told of it was
/// told before.
fn break_lease(
    world: &mut World,
    lock: &Lock,
    created: &CreatedFiles<'_>,
    file: FileRef,
) -> Result<(), Cause> {
    let Some(access) = lock.broken_by() else { return Ok(()) };
    match created.open_again(file, access) {
        Err(error) if error.is_would_block() => {}
        Err(error) => return Err(error.into()),
        Ok(_) => {
            return Err(contradiction(
                dormouse_image::ImageName::FileLocks,
                "a lease is being broken that keeps nobody waiting",
            ));
        }
    }
    forget_child(world, lock.task, Signal::IO)
}
