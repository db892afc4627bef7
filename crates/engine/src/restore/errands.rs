//! What tasks do for files, as nobody else can: make rings and userfaultfds, add those items of
//! epolls that hang on their own signals, ask to be told of messages.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_kernel::HostPid;
use dormouse_kernel::ptrace::Stopped;
use dormouse_kernel::signal::{SigSet, Signal};
use dormouse_puppet::{Arg, Batch};
use dormouse_resources::file::{Adder, CreateCx, CreatedFiles, SignalItem};
use dormouse_resources::task::{ProcessPending, ThreadPending};

use super::decode::{Body, Checkpoint, host};
use super::world::World;
use crate::cause::{At, Cause};
use crate::{Error, Phase};

/// Has tasks make those rings that only they can.
pub(super) fn make_rings(
    world: &mut World,
    checkpoint: &Checkpoint,
    cx: &mut CreateCx<'_>,
) -> Result<(), Error> {
    for (file, task, ring) in checkpoint.files.rings_of_tasks() {
        let made = ring.make(world.puppet(task)).of(Phase::Create, host(task))?;
        cx.give(file, made);
    }
    Ok(())
}

/// Has tasks make those userfaultfds that are about their memory.
pub(super) fn make_userfaultfds(
    world: &mut World,
    checkpoint: &Checkpoint,
    cx: &mut CreateCx<'_>,
) -> Result<(), Error> {
    for (file, task, userfaultfd) in checkpoint.files.userfaultfds_of_tasks() {
        let made = userfaultfd.make(world.puppet(task)).of(Phase::Create, host(task))?;
        cx.give(file, made);
    }
    Ok(())
}

/// Has tasks add those items of epolls that hang on their own signals. Their
/// fd tables hold nothing yet but the link.
pub(super) fn signal_items(
    world: &mut World,
    checkpoint: &Checkpoint,
    created: &CreatedFiles<'_>,
) -> Result<(), Error> {
    for item in &checkpoint.signal_items {
        let SignalItem { adder, epoll, target, number, fired_by, .. } = item;
        let Adder::Process(adder) = adder else { continue };
        let mut batch = Batch::new();
        let event = batch.data(&item.event());
        let link = world.link();
        // Above what a fetch gives, and in nobody's way.
        let mut free = (4..).filter(|&free| free != u64::from(*number) && free != link);
        let mut held = |file| {
            let slot = world.fetch(&mut batch, created.get(file));
            let to = free.next().unwrap_or(link);
            batch.call(libc::SYS_dup3, [(&slot).into(), to.into(), 0.into()]);
            batch.call(libc::SYS_close, [(&slot).into()]);
            to
        };
        let (epoll, target) = (held(*epoll), held(*target));
        batch.call(libc::SYS_dup3, [target.into(), (*number).into(), 0.into()]);
        let add = [epoll.into(), libc::EPOLL_CTL_ADD.into(), (*number).into(), event.into()];
        match fired_by {
            None => drop(batch.call(libc::SYS_epoll_ctl, add)),
            Some(signal) => fire(&mut batch, epoll, add, *signal),
        }
        for held in [epoll, target, u64::from(*number)] {
            batch.call(libc::SYS_close, [held.into()]);
        }
        world.run(*adder, batch).of(Phase::Install, host(*adder))?;
    }
    Ok(())
}

/// Adds a one-shot on a signalfd while a signal waits for the task, and has it
/// reported. The signal is taken back, and nobody delivers it meanwhile.
fn fire(batch: &mut Batch, epoll: u64, add: [Arg; 4], signal: Signal) {
    // More than are ever in front of it: level-triggered exclusive ones.
    const MOST: usize = 512;
    let size = size_of::<SigSet>() as u64;
    let all = batch.data(&u64::MAX.to_ne_bytes());
    let before = batch.out(size_of::<SigSet>());
    let own = batch.data(&SigSet::from_raw(0).with(signal).as_raw().to_ne_bytes());
    let at_once = batch.data(&[0; 16]);
    let reports = batch.out(MOST * size_of::<libc::epoll_event>());
    let mask = |batch: &mut Batch, new: Arg, old: Arg| {
        batch.call(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK.into(), new, old, size.into()]);
    };
    mask(batch, all.into(), (&before).into());
    let pid = batch.call(libc::SYS_getpid, []);
    let tid = batch.call(libc::SYS_gettid, []);
    batch.call(libc::SYS_tgkill, [(&pid).into(), (&tid).into(), signal.as_raw().into()]);
    batch.call(libc::SYS_epoll_ctl, add);
    let most = (MOST as u64).into();
    batch.call(libc::SYS_epoll_wait, [epoll.into(), (&reports).into(), most, 0.into()]);
    batch.call(libc::SYS_rt_sigtimedwait, [own.into(), 0.into(), at_once.into(), size.into()]);
    mask(batch, (&before).into(), 0.into());
}

/// Has those items of epolls hear signals that were to report none of those which wait now. No puppet
/// signals itself any more; what has come since the program's signals were put back, by a timer, is
/// reported.
pub(super) fn signals_wait(
    world: &World,
    checkpoint: &Checkpoint,
    created: &CreatedFiles<'_>,
) -> Result<(), Error> {
    let deaf = || checkpoint.signal_items.iter().filter(|item| item.is_deaf());
    SignalItem::listen_all(&checkpoint.signal_items, created).at(Phase::Threads)?;
    let adders: BTreeSet<_> = deaf().map(|item| item.adder).collect();
    let tasks: BTreeMap<HostPid, &Stopped> =
        world.ready().iter().map(|task| (task.tid(), task)).collect();
    for (process, body) in checkpoint.living() {
        let pid = process.node.pid;
        let adder = Adder::Process(pid);
        if adders.contains(&adder) && has_more(&tasks, body).of(Phase::Threads, host(pid))? {
            // The last that was added is told first.
            for item in deaf().filter(|item| item.adder == adder).rev() {
                item.listen(created, true).of(Phase::Threads, host(pid))?;
            }
        }
    }
    Ok(())
}

/// Whether more signals wait for a process than did when it was dumped.
fn has_more(tasks: &BTreeMap<HostPid, &Stopped>, body: &Body) -> Result<bool, Cause> {
    let mut expected = body.state.pending.signals().len();
    let (mut of_threads, mut of_process) = (0, 0);
    for thread in &body.threads {
        let Some(task) = tasks.get(&host(thread.tid)) else { continue };
        expected += thread.state.pending.signals().len();
        of_threads += ThreadPending::peek(task)?.signals().len();
        // The same for each.
        of_process = ProcessPending::peek(task)?.signals().len();
    }
    Ok(of_threads + of_process > expected)
}

/// Has processes ask again to be told of messages in queues.
pub(super) fn notifications(world: &mut World, checkpoint: &Checkpoint) -> Result<(), Error> {
    for notification in checkpoint.files.notifications() {
        let mut batch = Batch::new();
        notification.register(&mut batch);
        let process = notification.process;
        world.run(process, batch).of(Phase::Threads, host(process))?;
    }
    Ok(())
}
