//! Fd tables.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_kernel::NsPid;
use dormouse_puppet::Batch;
use dormouse_resources::file::{CreateCx, CreatedFiles, Descriptor};

use super::decode::{Checkpoint, host};
use super::directories::AllDirectories;
use super::overlap::Overlap;
use super::rights;
use super::world::{World, fetch};
use crate::cause::At;
use crate::{Error, Phase};

/// Fills every fd table, each through one task that uses it, and gives all tasks their directories. What
/// does not exist yet, as it is about what is in a table, has something else in its place: it is given
/// with the task.
pub(super) fn install<'a>(
    world: &mut World,
    checkpoint: &'a Checkpoint,
    created: &CreatedFiles<'_>,
    cx: &mut CreateCx<'_>,
) -> Result<Vec<(NsPid, &'a Descriptor)>, Error> {
    const PHASE: Phase = Phase::Install;
    let mut directories = AllDirectories::new()?;
    let mut late = Vec::new();
    let mut done = BTreeSet::new();
    let mut overlap = Overlap::new(world, PHASE);
    for thread in checkpoint.living().flat_map(|(_, body)| &body.threads) {
        let mut batch = Batch::new();
        if done.insert(thread.table) {
            let entries = &checkpoint.tables[&thread.table].entries;
            let sent = if rights::is_worth_it(entries) {
                let world = overlap.world_for(thread.tid)?;
                rights::send(world, thread.tid, entries, created).of(PHASE, host(thread.tid))?
            } else {
                0
            };
            fill(&mut batch, overlap.link(), (entries, sent), created);
            let missing = entries.iter().filter(|descriptor| !created.exists(descriptor.file));
            late.extend(missing.map(|descriptor| (thread.tid, descriptor)));
        }
        directories.give(thread, &mut batch, (overlap.link(), cx))?;
        overlap.run(thread.tid, batch);
    }
    overlap.finish()?;
    Ok(late)
}

/// Adds the calls that fill a table, whose first entries have been sent.
fn fill(
    batch: &mut Batch,
    link: u64,
    (entries, sent): (&[Descriptor], usize),
    created: &CreatedFiles<'_>,
) {
    // The kernel gives the lowest free number. Descending order would
    // need no thought, but dup3 for every one.
    let free_from = |number: u32| number + u32::from(u64::from(number) == link);
    let mut lowest = free_from(0);
    for (index, descriptor) in entries.iter().enumerate() {
        let wanted = descriptor.fd.as_raw();
        let is_lowest = wanted == lowest;
        if is_lowest {
            lowest = free_from(lowest + 1);
        }
        if index < sent {
            continue;
        }
        if !created.exists(descriptor.file) {
            let flags = libc::O_CLOEXEC.into();
            batch.call(libc::SYS_dup3, [link.into(), wanted.into(), flags]);
            continue;
        }
        let slot = fetch(link, batch, created.get(descriptor.file));
        let flags = if descriptor.close_on_exec { libc::O_CLOEXEC } else { 0 };
        if !is_lowest {
            batch.call(libc::SYS_dup3, [(&slot).into(), wanted.into(), flags.into()]);
            batch.call(libc::SYS_close, [(&slot).into()]);
        } else if !descriptor.close_on_exec {
            batch.call(libc::SYS_fcntl, [(&slot).into(), libc::F_SETFD.into(), 0.into()]);
        }
    }
}

/// Puts files in fd tables where something else has kept their places.
pub(super) fn replace(
    world: &mut World,
    late: Vec<(NsPid, &Descriptor)>,
    created: &CreatedFiles<'_>,
) -> Result<(), Error> {
    for (task, descriptor) in late {
        let mut batch = Batch::new();
        let slot = world.fetch(&mut batch, created.get(descriptor.file));
        let flags = if descriptor.close_on_exec { libc::O_CLOEXEC } else { 0 };
        batch.call(libc::SYS_dup3, [(&slot).into(), descriptor.fd.as_raw().into(), flags.into()]);
        batch.call(libc::SYS_close, [(&slot).into()]);
        world.run(task, batch).of(Phase::Install, host(task))?;
    }
    Ok(())
}

/// The tasks that are to close the link to dormouse, one for each fd table.
pub(super) fn closers(checkpoint: &Checkpoint) -> BTreeSet<NsPid> {
    let mut tables = BTreeMap::new();
    for thread in checkpoint.living().flat_map(|(_, body)| &body.threads) {
        tables.entry(thread.table).or_insert(thread.tid);
    }
    tables.into_values().collect()
}
