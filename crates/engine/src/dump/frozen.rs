//! A tree of which every task is stopped.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_kernel::HostPid;
use dormouse_kernel::proc::{ProcDir, Stat};
use dormouse_kernel::ptrace::{self, Running, Stopped};
use dormouse_kernel::signal::Signal;
use dormouse_puppet::{Interruption, call_with, interruption};
use rustix::process::{Pid, kill_process};

use super::queues::{Queues, Usher};
use super::sleepers::Deadline;
use super::waits::Wait;

/// Every task of a tree, stopped. Dropping it lets all of them run on; only
/// [`kill`](Self::kill) and [`leave_stopped`](Self::leave_stopped) do
/// otherwise.
#[derive(Debug)]
pub(crate) struct Frozen {
    /// The root first, and every parent before its children.
    pub(crate) processes: Vec<Process>,
    /// What tasks were waiting for.
    pub(crate) waits: BTreeMap<HostPid, Wait>,
    /// Until when those that make their call again were waiting.
    pub(super) deadlines: BTreeMap<HostPid, Deadline>,
    /// Who waits in an epoll with others.
    pub(crate) queues: Queues,
}

/// A process with all its threads stopped, or a zombie.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its pid.
    pub(crate) pid: HostPid,
    /// Its place in the tree; the root's parent is outside.
    pub(crate) parent: Option<HostPid>,
    /// The thread of its parent that it is a child of.
    pub(crate) parent_thread: Option<HostPid>,
    /// `/proc/PID`; if the leader has ended, that of the first other thread,
    /// for what has ended has no memory and no files.
    pub(crate) proc: ProcDir,
    /// `/proc/PID/stat`, read while it was stopped.
    pub(crate) stat: Stat,
    /// The signal by which job control held it when it was found.
    pub(crate) held_by: Option<Signal>,
    /// How the thread group leader has ended, if other threads go on.
    pub(crate) leader_status: Option<i32>,
    /// The thread group leader first unless it has ended, the others by tid;
    /// none if the process is a zombie.
    pub(crate) threads: Vec<Stopped>,
}

impl Process {
    /// Whether the process has ended and waits for its parent.
    pub(crate) fn is_zombie(&self) -> bool {
        self.threads.is_empty()
    }

    /// The thread that is asked for the whole process: the first that lives.
    pub(crate) fn first(&self) -> HostPid {
        self.threads.first().map_or(self.pid, Stopped::tid)
    }
}

impl Frozen {
    /// How many tasks are stopped.
    pub(crate) fn tasks(&self) -> usize {
        self.processes.iter().map(|process| process.threads.len()).sum()
    }

    /// Kills every process, and waits until none is left but for its parent
    /// to see. `ending` is called when nothing can save them any more.
    pub(crate) fn kill(mut self, ending: impl FnOnce()) -> Result<(), ptrace::Error> {
        for process in self.processes.iter().filter(|process| !process.is_zombie()) {
            signal(process.pid, rustix::process::Signal::KILL);
        }
        ending();
        // Threads go before their leader, and children before their parents.
        let processes = std::mem::take(&mut self.processes);
        for process in processes.into_iter().rev() {
            for task in process.threads.into_iter().rev() {
                await_end(task)?;
            }
        }
        Ok(())
    }

    /// Lets go of every process, held by SIGSTOP.
    pub(crate) fn leave_stopped(self) {
        for process in self.processes.iter().filter(|process| !process.is_zombie()) {
            signal(process.pid, rustix::process::Signal::STOP);
        }
    }
}

fn await_end(task: Stopped) -> Result<(), ptrace::Error> {
    let mut running = Running::attached(task.tid());
    loop {
        match running.wait() {
            Ok(ptrace::Outcome::Exited(_)) | Err(ptrace::Error::Died { .. }) => return Ok(()),
            Ok(ptrace::Outcome::Stopped(task)) => running = task.resume(Some(Signal::KILL))?,
            Err(error) => return Err(error),
        }
    }
}

fn signal(pid: HostPid, signal: rustix::process::Signal) {
    if let Some(pid) = Pid::from_raw(pid.as_raw()) {
        // All of them are stopped and none can have been reaped, so the
        // number is still theirs.
        let _ = kill_process(pid, signal);
    }
}

/// Gives a task, in a call that it makes again, the time that is left for it.
fn shorten(task: &mut Stopped, deadline: Deadline) {
    if let Ok(registers) = task.registers() {
        let again = Interruption::call_again(&registers);
        let shortened = call_with(task.tid(), &again, deadline.left());
        // Should this fail, it takes the whole of the time.
        let _ = task.set_registers(&shortened);
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let processes = self.processes.iter();
        let targets = processes.flat_map(|process| [Some(process.pid), process.parent_thread]);
        let targets: BTreeSet<_> = targets.flatten().collect();
        let tasks = self.processes.drain(..).flat_map(|process| process.threads);
        let is_target = |tid| targets.contains(&tid);
        let_go_all(tasks, is_target, &self.waits, &self.deadlines, &self.queues);
    }
}

/// Has tasks go on where they were, first those that wait with others: as long
/// as nobody else runs, nobody wakes them. The other tasks in their order, but targets before all
/// others: those to whom signals are sent. One that is traced still has what does nothing to it
/// wake others of its process.
pub(super) fn let_go_all(
    tasks: impl Iterator<Item = Stopped>,
    is_target: impl Fn(HostPid) -> bool,
    waits: &BTreeMap<HostPid, Wait>,
    deadlines: &BTreeMap<HostPid, Deadline>,
    queues: &Queues,
) {
    let turns = queues.turns();
    let (mut waiters, mut others): (Vec<_>, Vec<_>) =
        tasks.partition(|task| turns.contains_key(&task.tid()));
    waiters.sort_by_key(|task| turns[&task.tid()]);
    others.sort_by_key(|task| !is_target(task.tid()));
    let usher = Usher::new();
    for task in waiters {
        let tid = task.tid();
        let_go(task, waits, deadlines);
        usher.await_wait(tid);
    }
    for task in others {
        let_go(task, waits, deadlines);
    }
}

/// Has a task go on where it was, and as if nothing had been.
pub(super) fn let_go(
    mut task: Stopped,
    waits: &BTreeMap<HostPid, Wait>,
    deadlines: &BTreeMap<HostPid, Deadline>,
) {
    let tid = task.tid();
    if let Some(&deadline) = deadlines.get(&tid) {
        shorten(&mut task, deadline);
    }
    if let Some(wait) = waits.get(&tid).filter(|wait| wait.has_remainder())
        && let Ok(registers) = task.registers()
        && interruption(&registers, false) == Some(Interruption::RestartBlock)
    {
        wait.forget_remainder(tid, &registers, registers.orig_rax);
    }
    // A task that has died needs no release.
    let _ = task.detach(None);
}
