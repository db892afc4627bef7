//! Who is controlled by which terminal.
//!
//! A session leader takes its terminal as soon as it has made its session:
//! whoever is forked later has it too. The foreground group is set when all
//! groups exist.

use dormouse_kernel::terminal::{GIVE_UP_CONTROLLING, SET_CONTROLLING, SET_FOREGROUND};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};

use dormouse_kernel::NsPid;
use dormouse_kernel::signal::Signal;
use dormouse_puppet::{Batch, Ending};
use dormouse_resources::file::{Control, CreatedFiles, FileRef};

use super::decode::{Checkpoint, Process, host};
use super::endings::forget_child;
use super::world::World;
use crate::cause::{At, Cause};
use crate::{Error, Phase};

/// Sessions with their terminals.
pub(super) struct Terminals<'a> {
    created: &'a CreatedFiles<'a>,
    controlled: BTreeMap<NsPid, (FileRef, Control)>,
}

impl<'a> Terminals<'a> {
    pub(super) fn new(checkpoint: &Checkpoint, created: &'a CreatedFiles<'a>) -> Self {
        Self { created, controlled: checkpoint.files.controlling() }
    }
}

/// Gives the leader of a new session its terminal, if it had one.
pub(super) fn take(
    world: &mut World,
    leader: NsPid,
    terminals: &Terminals<'_>,
) -> Result<(), Cause> {
    let Some(&(terminal, _)) = terminals.controlled.get(&leader) else { return Ok(()) };
    call(world, leader, terminals.created, terminal, |batch, fd| {
        batch.call(libc::SYS_ioctl, [fd.into(), SET_CONTROLLING.into(), 0.into()]);
    })
}

/// Has `act` add calls to a batch that `task` runs with the terminal open.
fn call(
    world: &mut World,
    task: NsPid,
    created: &CreatedFiles<'_>,
    terminal: FileRef,
    act: impl FnOnce(&mut Batch, &dormouse_puppet::Slot),
) -> Result<(), Cause> {
    let mut batch = Batch::new();
    let fd = world.fetch(&mut batch, created.get(terminal));
    act(&mut batch, &fd);
    batch.call(libc::SYS_close, [(&fd).into()]);
    world.run(task, batch)?;
    Ok(())
}

/// Takes the terminal from those who had given it up, and sets foreground
/// groups.
pub(super) fn arrange(
    world: &mut World,
    checkpoint: &Checkpoint,
    terminals: &Terminals<'_>,
    shell_job: bool,
) -> Result<(), Error> {
    const PHASE: Phase = Phase::Threads;
    let Terminals { created, controlled } = terminals;
    for process in &checkpoint.processes {
        let pid = process.node.pid;
        let Some(session) = NsPid::from_raw(process.node.sid) else { continue };
        let Some(&(terminal, control)) = controlled.get(&session) else { continue };
        if process.without_terminal && process.body.is_some() {
            call(world, pid, created, terminal, |batch, fd| {
                batch.call(libc::SYS_ioctl, [fd.into(), GIVE_UP_CONTROLLING.into(), 0.into()]);
            })
            .of(PHASE, host(pid))?;
        }
        if session == pid && process.body.is_some() {
            let foreground = (terminal, control.foreground);
            set_foreground(world, pid, checkpoint, created, foreground).of(PHASE, host(pid))?;
        }
    }
    match checkpoint.files.inherited_terminal().filter(|_| shell_job) {
        None => Ok(()),
        Some(terminal) => {
            let root = &checkpoint.processes[0];
            come_forward(world, root, created, terminal).of(PHASE, host(root.node.pid))
        }
    }
}

fn set_foreground(
    world: &mut World,
    leader: NsPid,
    checkpoint: &Checkpoint,
    created: &CreatedFiles<'_>,
    (terminal, group): (FileRef, i32),
) -> Result<(), Cause> {
    if group == 0 || group == leader.as_raw() {
        return Ok(());
    }
    let exists = checkpoint.processes.iter().any(|process| process.node.pgid == group);
    let stand_in = NsPid::from_raw(group).filter(|_| !exists);
    if let Some(stand_in) = stand_in {
        world.stand_in(leader, stand_in)?;
        let mut batch = Batch::new();
        batch.call(libc::SYS_setpgid, [0.into(), 0.into()]);
        world.run(stand_in, batch)?;
    }
    call(world, leader, created, terminal, |batch, fd| {
        let number = batch.data(&group.to_ne_bytes());
        batch.call(libc::SYS_ioctl, [fd.into(), SET_FOREGROUND.into(), number.into()]);
    })?;
    if let Some(stand_in) = stand_in {
        world.take(stand_in).end(Ending::Exit(0))?;
        let mut batch = Batch::new();
        let args = [stand_in.as_raw().into(), 0.into(), 0.into(), 0.into()];
        batch.call(libc::SYS_wait4, args);
        world.run(leader, batch)?;
        forget_child(world, leader, Signal::CHLD)?;
    }
    Ok(())
}

/// A job that comes back on dormouse's own terminal is in the foreground of it
/// if it has a group of its own; else it is in dormouse's. A puppet blocks the
/// signal that this would stop it with.
fn come_forward(
    world: &mut World,
    root: &Process,
    created: &CreatedFiles<'_>,
    terminal: FileRef,
) -> Result<(), Cause> {
    let pid = root.node.pid;
    if root.node.sid == pid.as_raw() || root.node.pgid != pid.as_raw() {
        return Ok(());
    }
    call(world, pid, created, terminal, |batch, fd| {
        let number = batch.data(&root.node.pgid.to_ne_bytes());
        batch.may_fail(libc::SYS_ioctl, [fd.into(), SET_FOREGROUND.into(), number.into()]);
    })
}

/// The controlling terminal of the tree's own processes, which dormouse has
/// too: that of its standard input, if that is one.
pub(super) fn outer(shell_job: bool) -> Option<OwnedFd> {
    let (input, output, errors) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let standard = [input.as_fd(), output.as_fd(), errors.as_fd()];
    let terminal = standard.into_iter().find(|file| file.is_terminal()).filter(|_| shell_job)?;
    terminal.try_clone_to_owned().ok()
}
