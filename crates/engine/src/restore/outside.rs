//! What is written to `/proc`.

use std::os::fd::AsFd;

use dormouse_kernel::proc::{Entry, ProcDir};
use dormouse_puppet::{Batch, Slot};
use dormouse_resources::task::LoginUid;
use rustix::fs::OFlags;

use super::decode::{Body, Checkpoint, Process, host};
use super::world::World;
use crate::cause::{At, Cause};
use crate::{Error, Phase};

const PHASE: Phase = Phase::Threads;

/// Writes it, and has threads write what only they may, while they still reach
/// dormouse.
pub(super) fn write(
    world: &mut World,
    checkpoint: &Checkpoint,
    shell_job: bool,
) -> Result<(), Error> {
    let inherited = ProcDir::of_self().map_err(Cause::from).at(PHASE)?;
    let inherited = LoginUid::read(&inherited).at(PHASE)?;
    for (process, body) in checkpoint.living() {
        let pid = host(process.node.pid);
        let dir = ProcDir::open(pid).of(PHASE, pid)?;
        body.outside.write(&dir, !shell_job).of(PHASE, pid)?;
        login_uids(world, (process, body), &dir, inherited).of(PHASE, pid)?;
    }
    Ok(())
}

fn login_uids(
    world: &mut World,
    (_, body): (&Process, &Body),
    dir: &ProcDir,
    inherited: LoginUid,
) -> Result<(), Cause> {
    let leader = body.threads[0].state.login_uid;
    for thread in &body.threads {
        let wanted = thread.state.login_uid.or(leader);
        if !wanted.differs(inherited) {
            continue;
        }
        let file = dir.task(host(thread.tid))?;
        let file = file.open_entry(Entry::Named("loginuid"), OFlags::WRONLY)?;
        let mut batch = Batch::new();
        let slot: Slot = world.fetch(&mut batch, file.as_fd());
        wanted.write(&mut batch, (&slot).into());
        batch.call(libc::SYS_close, [(&slot).into()]);
        world.run(thread.tid, batch)?;
    }
    Ok(())
}
