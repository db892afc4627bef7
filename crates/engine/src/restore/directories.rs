//! Working and root directories, umasks.

use std::collections::BTreeSet;
use std::os::fd::AsFd;

use dormouse_puppet::Batch;
use dormouse_resources::file::CreateCx;

use super::decode::{Checkpoint, host};
use super::world::World;
use crate::cause::{At, Cause};
use crate::{Error, Phase};

/// Gives them to all tasks, each to one of those who share it.
pub(super) fn set(
    world: &mut World,
    checkpoint: &Checkpoint,
    cx: &mut CreateCx<'_>,
) -> Result<(), Error> {
    const PHASE: Phase = Phase::Install;
    let own_root = rustix::fs::stat("/").map_err(|source| Cause::Own {
        call: "stat",
        subject: "/".to_owned(),
        source,
    });
    let own_root = own_root.at(PHASE)?;
    let mut done = BTreeSet::new();
    for thread in checkpoint.living().flat_map(|(_, body)| &body.threads) {
        if !done.insert(thread.directories.number) {
            continue;
        }
        let of = host(thread.tid);
        let mut batch = Batch::new();
        let cwd = cx.open_path(thread.directories.cwd).of(PHASE, of)?;
        let root = cx.open_path(thread.directories.root).of(PHASE, of)?;
        let stat = rustix::fs::fstat(&root).map_err(|source| Cause::Own {
            call: "fstat",
            subject: "the root directory".to_owned(),
            source,
        });
        let stat = stat.of(PHASE, of)?;
        let changed = (stat.st_dev, stat.st_ino) != (own_root.st_dev, own_root.st_ino);
        let cwd_slot = world.fetch(&mut batch, cwd.as_fd());
        let root_slot = changed.then(|| world.fetch(&mut batch, root.as_fd()));
        thread.directories.state.apply(
            &mut batch,
            (&cwd_slot).into(),
            root_slot.as_ref().map(Into::into),
        );
        batch.call(libc::SYS_close, [(&cwd_slot).into()]);
        if let Some(slot) = root_slot {
            batch.call(libc::SYS_close, [(&slot).into()]);
        }
        world.run(thread.tid, batch).of(PHASE, of)?;
    }
    Ok(())
}
