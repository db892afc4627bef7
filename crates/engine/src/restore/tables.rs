//! Fd tables.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_kernel::NsPid;
use dormouse_puppet::Batch;
use dormouse_resources::file::{CreatedFiles, Descriptor};

use super::decode::{Checkpoint, host};
use super::rights;
use super::world::World;
use crate::cause::At;
use crate::{Error, Phase};

/// Fills every fd table, each through one task that uses it. What does not exist yet, as it is about
/// what is in a table, has something else in its place: it is given with the task.
pub(super) fn install<'a>(
    world: &mut World,
    checkpoint: &'a Checkpoint,
    created: &CreatedFiles<'_>,
) -> Result<Vec<(NsPid, &'a Descriptor)>, Error> {
    let mut late = Vec::new();
    let mut done = BTreeSet::new();
    for (_, body) in checkpoint.living() {
        for thread in &body.threads {
            if !done.insert(thread.table) {
                continue;
            }
            let table = &checkpoint.tables[&thread.table];
            let sent = rights::send(world, thread.tid, &table.entries, created);
            let sent = sent.of(Phase::Install, host(thread.tid))?;
            let mut batch = Batch::new();
            // The kernel gives the lowest free number. Descending order would
            // need no thought, but dup3 for every one.
            let link = world.link();
            let free_from = |number: u32| number + u32::from(u64::from(number) == link);
            let mut lowest = free_from(0);
            for (index, descriptor) in table.entries.iter().enumerate() {
                let wanted = descriptor.fd.as_raw();
                let exists = created.exists(descriptor.file);
                if !exists {
                    late.push((thread.tid, descriptor));
                }
                if index < sent {
                    if wanted == lowest {
                        lowest = free_from(lowest + 1);
                    }
                    continue;
                }
                if !exists {
                    let flags = libc::O_CLOEXEC.into();
                    batch.call(libc::SYS_dup3, [link.into(), wanted.into(), flags]);
                    if wanted == lowest {
                        lowest = free_from(lowest + 1);
                    }
                    continue;
                }
                let slot = world.fetch(&mut batch, created.get(descriptor.file));
                let flags = if descriptor.close_on_exec { libc::O_CLOEXEC } else { 0 };
                if wanted == lowest {
                    lowest = free_from(lowest + 1);
                    if !descriptor.close_on_exec {
                        batch.call(
                            libc::SYS_fcntl,
                            [(&slot).into(), libc::F_SETFD.into(), 0.into()],
                        );
                    }
                } else {
                    batch.call(libc::SYS_dup3, [(&slot).into(), wanted.into(), flags.into()]);
                    batch.call(libc::SYS_close, [(&slot).into()]);
                }
            }
            world.run(thread.tid, batch).of(Phase::Install, host(thread.tid))?;
        }
    }
    Ok(late)
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

/// Closes the link to dormouse in every fd table.
pub(super) fn let_go_of_link(world: &mut World, checkpoint: &Checkpoint) -> Result<(), Error> {
    let mut tables = BTreeMap::new();
    for thread in checkpoint.living().flat_map(|(_, body)| &body.threads) {
        tables.entry(thread.table).or_insert(thread.tid);
    }
    for task in tables.into_values() {
        let mut batch = Batch::new();
        batch.call(libc::SYS_close, [world.link().into()]);
        world.run(task, batch).of(Phase::Threads, host(task))?;
    }
    Ok(())
}
