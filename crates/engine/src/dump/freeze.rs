//! Stops every task of a tree.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use dormouse_kernel::HostPid;
use dormouse_kernel::proc::{self, ProcDir, Stat, TaskState};
use dormouse_kernel::ptrace::{self, Halt, Halting, Options, Reaper, Running, Stop, Stopped};
use tracing::{debug, debug_span};

use super::frozen::{Frozen, Process, let_go};
use super::interrupted;
use super::sleepers::{Deadline, Sleepers};
use super::waits::Wait;

/// Why a tree could not be stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The root is not there.
    #[error("there is no process {0}")]
    NoSuchProcess(HostPid),
    /// The pid is that of a thread.
    #[error("{tid} is a thread of process {process}")]
    IsThread {
        /// What was asked for.
        tid: HostPid,
        /// What to ask for.
        process: HostPid,
    },
    /// Kernel threads have no user state.
    #[error("process {0} is a kernel thread")]
    KernelThread(HostPid),
    /// Nothing is left of the root but its exit status.
    #[error("process {0} has ended")]
    RootIsZombie(HostPid),
    /// Somebody else traces the task.
    #[error("task {tid} is being traced by process {tracer}")]
    Traced {
        /// The task.
        tid: HostPid,
        /// Who traces it.
        tracer: HostPid,
    },
    /// The task cannot be stopped before its child does something.
    #[error("task {0} waits in vfork(2) until its child has ended or runs another program")]
    Vfork(HostPid),
    /// The tree includes dormouse.
    #[error("dormouse itself is in the tree")]
    Suicide,
    /// New tasks turned up for too long.
    #[error("the tree could not be stopped within {0:?}")]
    Timeout(Duration),
    /// A task did not stop.
    #[error("task {tid} did not stop within {timeout:?}: it is in a call that nothing interrupts")]
    Immovable {
        /// The task.
        tid: HostPid,
        /// How long was waited for all of them.
        timeout: Duration,
    },
    /// There can be no thread to help.
    #[error("cannot start a thread: {0}")]
    Reaper(std::io::Error),
    /// Nobody wants the tree stopped any more.
    #[error("whoever asked for the dump is gone")]
    Abandoned,
    /// `/proc` could not be read.
    #[error(transparent)]
    Proc(#[from] proc::Error),
    /// ptrace refused.
    #[error(transparent)]
    Ptrace(#[from] ptrace::Error),
}

/// Stops the tree below `root`: seizes task after task, and looks for new
/// ones until a whole look round finds none.
pub(crate) fn freeze(
    root: HostPid,
    timeout: Duration,
    is_abandoned: &dyn Fn() -> bool,
) -> Result<Frozen, Error> {
    let mut freezer = Freezer::new(timeout);
    let result = freezer.run(root, is_abandoned);
    freezer.reaper = None;
    let tasks = std::mem::take(&mut freezer.tasks);
    match result {
        Ok(()) => freezer.arrange(root, tasks),
        Err(error) => {
            for (_, task) in tasks {
                freezer.let_go(task);
            }
            Err(error)
        }
    }
}

/// A thread that is to be stopped.
#[derive(Clone, Copy, Debug)]
struct Member {
    pid: HostPid,
    tid: HostPid,
    /// How many its process has.
    threads: usize,
}

struct Freezer {
    timeout: Duration,
    deadline: Instant,
    /// There as soon as a process has several threads.
    reaper: Option<Reaper>,
    sleepers: Option<Sleepers>,
    deadlines: BTreeMap<HostPid, Deadline>,
    tasks: BTreeMap<HostPid, Stopped>,
    zombies: BTreeSet<HostPid>,
    /// The process and the thread that each process is a child of.
    parents: BTreeMap<HostPid, (HostPid, HostPid)>,
    members: BTreeMap<HostPid, Vec<HostPid>>,
    dirs: BTreeMap<HostPid, ProcDir>,
    waits: BTreeMap<HostPid, Wait>,
    /// Processes that threads have gone from since these were listed.
    shaken: BTreeSet<HostPid>,
}

impl Freezer {
    fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            deadline: Instant::now() + timeout,
            reaper: None,
            sleepers: None,
            deadlines: BTreeMap::new(),
            tasks: BTreeMap::new(),
            zombies: BTreeSet::new(),
            parents: BTreeMap::new(),
            members: BTreeMap::new(),
            dirs: BTreeMap::new(),
            waits: BTreeMap::new(),
            shaken: BTreeSet::new(),
        }
    }

    fn run(&mut self, root: HostPid, is_abandoned: &dyn Fn() -> bool) -> Result<(), Error> {
        check_root(root)?;
        self.parents.clear();
        let mut processes = vec![root];
        loop {
            let mut news = false;
            // Generation after generation: a process that is stopped has no more children.
            let mut begin = 0;
            while begin < processes.len() {
                if is_abandoned() {
                    return Err(Error::Abandoned);
                }
                let generation = processes[begin..].to_vec();
                begin = processes.len();
                news |= self.stop_processes(&generation)?;
                for pid in generation {
                    for &tid in self.members.get(&pid).map_or(&[][..], Vec::as_slice) {
                        for child in children(&self.dirs[&pid], tid)? {
                            if self.parents.insert(child, (pid, tid)).is_none() {
                                processes.push(child);
                                news = true;
                            }
                        }
                    }
                }
            }
            if !news {
                return Ok(());
            }
            self.check_time()?;
        }
    }

    fn check_time(&self) -> Result<(), Error> {
        if self.is_late() { Err(Error::Timeout(self.timeout)) } else { Ok(()) }
    }

    fn is_late(&self) -> bool {
        Instant::now() > self.deadline
    }

    /// Stops the threads of some processes that are not stopped yet; tells
    /// whether there were any.
    fn stop_processes(&mut self, pids: &[HostPid]) -> Result<bool, Error> {
        let mut there = Vec::new();
        for &pid in pids {
            if self.find(pid)? {
                there.push(pid);
            }
        }
        let mut news = false;
        loop {
            // Leaders by themselves, and first: should a process end by itself just now, the kernel
            // tells of its leader's end only when no tracer has to be told of another thread's.
            let (mut leaders, mut others) = (Vec::new(), Vec::new());
            for &pid in &there {
                let tids = match self.dirs[&pid].tasks() {
                    Ok(tids) => tids,
                    Err(proc::Error::Gone { .. }) => continue,
                    Err(error) => return Err(error.into()),
                };
                let threads = tids.len();
                if threads > 1 && self.reaper.is_none() {
                    self.reaper = Some(Reaper::start().map_err(Error::Reaper)?);
                }
                for tid in tids.into_iter().filter(|tid| !self.tasks.contains_key(tid)) {
                    let list = if tid == pid { &mut leaders } else { &mut others };
                    list.push(Member { pid, tid, threads });
                }
            }
            let stopped = self.tasks.len();
            self.stop_threads(&leaders)?;
            self.stop_threads(&others)?;
            let shaken = std::mem::take(&mut self.shaken);
            if self.tasks.len() == stopped && shaken.is_empty() {
                return Ok(news);
            }
            for pid in shaken {
                self.forget_ended(pid)?;
            }
            self.check_time()?;
            news = true;
        }
    }

    /// Forgets threads that had been stopped and are not any more: they were
    /// killed, by somebody or by the `execve(2)` of another thread, which may
    /// have taken over the number of the first.
    fn forget_ended(&mut self, pid: HostPid) -> Result<(), Error> {
        let Some(members) = self.members.remove(&pid) else { return Ok(()) };
        let mut stay = Vec::new();
        for tid in members {
            let state = self.dirs[&pid].task(tid).and_then(|dir| dir.stat()).map(|stat| stat.state);
            let is_stopped = match state {
                Ok(state) => state == TaskState::TracingStop,
                Err(proc::Error::Gone { .. }) => false,
                Err(error) => return Err(error.into()),
            };
            match self.tasks.get(&tid) {
                // What it reports now is about another task of this number.
                Some(task) if is_stopped && matches!(task.has_news(), Ok(false)) => stay.push(tid),
                _ => {
                    debug!(%tid, "is not stopped any more");
                    self.tasks.remove(&tid);
                    self.waits.remove(&tid);
                    self.deadlines.remove(&tid);
                }
            }
        }
        self.members.insert(pid, stay);
        Ok(())
    }

    /// Opens the directory of a process, unless it is gone or a zombie.
    fn find(&mut self, pid: HostPid) -> Result<bool, Error> {
        if self.zombies.contains(&pid) {
            return Ok(false);
        }
        if pid == HostPid::of_self() {
            return Err(Error::Suicide);
        }
        if let Entry::Vacant(place) = self.dirs.entry(pid) {
            match ProcDir::open(pid) {
                Ok(dir) => place.insert(dir),
                // It ended and was reaped since its parent named it.
                Err(proc::Error::Gone { .. }) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
        }
        Ok(true)
    }

    /// Stops threads, as far as they have not ended.
    fn stop_threads(&mut self, members: &[Member]) -> Result<(), Error> {
        let mut running = Vec::new();
        for &member in members {
            match self.seize(member) {
                Ok(Some(task)) => {
                    if let Some(reaper) = &self.reaper {
                        reaper.add(member.tid);
                    }
                    running.push((member, task));
                }
                Ok(None) => {}
                Err(error) => {
                    // Those on their way are stopped before they are let go.
                    self.halt(running)?;
                    return Err(error);
                }
            }
        }
        if !running.is_empty() {
            self.note_deadlines(&running);
        }
        self.halt(running)
    }

    /// Begins to trace a thread; `None` if it has ended.
    fn seize(&mut self, member: Member) -> Result<Option<Running>, Error> {
        const TRIES: u32 = 100;
        let Member { pid, tid, threads } = member;
        let wait = self.await_vfork(pid, tid)?;
        if let Some(wait) = wait {
            self.waits.insert(tid, wait);
        }
        for attempt in 1.. {
            let options = Options::TRACESYSGOOD | Options::SUSPEND_SECCOMP;
            let refused = match Running::seize(tid, options) {
                Ok(task) => return Ok(Some(task)),
                Err(ptrace::Error::Died { .. }) => break,
                Err(error) => error,
            };
            let status = match self.dirs[&pid].task(tid).and_then(|dir| dir.status()) {
                Ok(status) => status,
                Err(proc::Error::Gone { .. }) => break,
                Err(error) => return Err(error.into()),
            };
            match status.tracer {
                // The first thread of a process may have ended while others go on.
                _ if status.state.is_dead() => {
                    if tid == pid && threads == 1 {
                        self.zombies.insert(pid);
                    }
                    return Ok(None);
                }
                // By execve(2), a thread that is traced has taken over the number of the first.
                Some(tracer) if tracer == HostPid::of_thread() => {
                    return Ok(Some(Running::attached(tid)));
                }
                Some(tracer) => return Err(Error::Traced { tid, tracer }),
                // It was about to end, perhaps.
                None if attempt < TRIES => std::thread::sleep(Duration::from_millis(1)),
                None => return Err(refused.into()),
            }
        }
        self.shaken.insert(pid);
        Ok(None)
    }

    /// What a task waits for, which is no `vfork(2)`: nothing but a deadly
    /// signal ends that, so a task that waits there for long is not to be
    /// stopped. As its child is looked for after it, most are over soon.
    fn await_vfork(&self, pid: HostPid, tid: HostPid) -> Result<Option<Wait>, Error> {
        const PATIENCE: Duration = Duration::from_millis(500);
        let begun = Instant::now();
        loop {
            let Ok(dir) = self.dirs[&pid].task(tid) else { return Ok(None) };
            let wait = Wait::look(&dir, tid);
            let may_be = wait.as_ref().is_some_and(|wait| wait.may_be_vfork(tid));
            if !may_be || dir.stat().is_ok_and(|stat| stat.state != TaskState::DiskSleep) {
                return Ok(wait);
            }
            if begun.elapsed() > PATIENCE {
                return Err(Error::Vfork(tid));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Notes until when tasks wait that are about to be stopped, as far as the
    /// kernel would forget it.
    fn note_deadlines(&mut self, running: &[(Member, Running)]) {
        let forgets = |tid: &HostPid| self.waits.get(tid).is_some_and(Wait::forgets_time_out);
        let tids = running.iter().map(|(member, _)| member.tid);
        let wanted: BTreeSet<_> = tids.filter(forgets).collect();
        if wanted.is_empty() {
            return;
        }
        if self.sleepers.is_none() {
            self.sleepers = Sleepers::open();
        }
        if let Some(sleepers) = &mut self.sleepers {
            self.deadlines.extend(sleepers.deadlines(&wanted, running.len()));
        }
    }

    /// Stops threads that are traced. All together, as each may have to wait
    /// for a processor until it can stop; but one after the other those that
    /// would be told `EINTR` if this process died before it has hidden that.
    fn halt(&mut self, running: Vec<(Member, Running)>) -> Result<(), Error> {
        let (alone, together): (Vec<_>, Vec<_>) = running.into_iter().partition(|(member, _)| {
            self.waits.get(&member.tid).is_some_and(Wait::may_answer_eintr)
        });
        let halting: Vec<_> =
            together.into_iter().map(|(member, task)| (member, task.begin_halt())).collect();
        // All of them, whatever becomes of some: those who are stopped are let go of in the end.
        let mut result = Ok(());
        for (member, task) in halting {
            result = result.and(self.finish_halt(member, task));
        }
        for (member, task) in alone {
            result = result.and(self.finish_halt(member, task.begin_halt()));
        }
        result
    }

    fn finish_halt(
        &mut self,
        member: Member,
        task: Result<Halting, ptrace::Error>,
    ) -> Result<(), Error> {
        let Member { pid, tid, .. } = member;
        if let Some(reaper) = &self.reaper {
            reaper.step();
        }
        let _span = debug_span!("freeze", %pid).entered();
        let dir = &self.dirs[&pid];
        let has_ended = || tid == pid && dir.stat().is_ok_and(|stat| stat.state.is_dead());
        let is_over = || has_ended() || self.is_late();
        let mut task = match task.and_then(|task| task.finish_unless(is_over)) {
            Ok(Halt::Halted { task, born: _ }) => task,
            Ok(Halt::Ended { .. }) if !has_ended() => {
                return Err(Error::Immovable { tid, timeout: self.timeout });
            }
            // Reaped here or by the reaper, or it runs another program under the first one's number.
            Ok(Halt::Exited { .. } | Halt::Ended { .. }) | Err(ptrace::Error::Died { .. }) => {
                debug!(%tid, "ended");
                self.shaken.insert(pid);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        debug!(%tid, stop = ?task.stop(), "stopped");
        let hidden = interrupted::hide(&mut task, || dir.task(tid).and_then(|dir| dir.status()));
        self.tasks.insert(tid, task);
        self.members.entry(pid).or_default().push(tid);
        let again = match hidden {
            Ok(again) => again,
            Err(
                interrupted::Error::Ptrace(ptrace::Error::Died { .. })
                | interrupted::Error::Proc(proc::Error::Gone { .. }),
            ) => {
                self.shaken.insert(pid);
                return Ok(());
            }
            Err(interrupted::Error::Proc(error)) => return Err(error.into()),
            Err(interrupted::Error::Ptrace(error)) => return Err(error.into()),
        };
        let wait = self.waits.get(&tid).zip(again);
        if !wait.is_some_and(|(wait, again)| wait.is_made_again(&again)) {
            self.deadlines.remove(&tid);
        }
        Ok(())
    }

    fn let_go(&self, task: Stopped) {
        let_go(task, &self.waits, &self.deadlines);
    }

    /// Parents first, in the order of pids among siblings.
    fn arrange(
        mut self,
        root: HostPid,
        mut tasks: BTreeMap<HostPid, Stopped>,
    ) -> Result<Frozen, Error> {
        let mut frozen = Frozen {
            processes: Vec::new(),
            waits: std::mem::take(&mut self.waits),
            deadlines: std::mem::take(&mut self.deadlines),
        };
        let mut children: BTreeMap<HostPid, Vec<HostPid>> = BTreeMap::new();
        for (&child, &(parent, _)) in &self.parents {
            children.entry(parent).or_default().push(child);
        }
        let mut queue = std::collections::VecDeque::from([root]);
        while let Some(pid) = queue.pop_front() {
            let mut members = self.members.remove(&pid).unwrap_or_default();
            members.sort_by_key(|&tid| (tid != pid, tid));
            let threads: Vec<_> = members.iter().filter_map(|tid| tasks.remove(tid)).collect();
            queue.extend(children.remove(&pid).unwrap_or_default());
            let Some(proc) = self.dirs.remove(&pid) else { continue };
            let first = threads.first().map_or(pid, Stopped::tid);
            let (proc, stat) = match look(proc, first) {
                Ok(found) => found,
                Err(proc::Error::Gone { .. }) if threads.is_empty() => continue,
                Err(error) => {
                    for task in threads.into_iter().chain(tasks.into_values()) {
                        let_go(task, &frozen.waits, &frozen.deadlines);
                    }
                    return Err(error.into());
                }
            };
            let (parent, parent_thread) = self.parents.get(&pid).copied().unzip();
            let held_by = threads.first().and_then(|leader| match leader.stop() {
                Stop::Group(signal) => Some(signal),
                _ => None,
            });
            frozen.processes.push(Process {
                pid,
                parent,
                parent_thread,
                proc,
                leader_status: (first != pid).then_some(stat.exit_code),
                stat,
                held_by,
                threads,
            });
        }
        match frozen.processes.first() {
            Some(first) if first.pid == root && !first.is_zombie() => Ok(frozen),
            Some(first) if first.pid == root => Err(Error::RootIsZombie(root)),
            // It has ended, and was reaped.
            _ => Err(Error::NoSuchProcess(root)),
        }
    }
}

/// The directory in which to look for what a process has, and its `stat`.
/// `first` is its first thread that lives.
fn look(proc: ProcDir, first: HostPid) -> Result<(ProcDir, Stat), proc::Error> {
    let stat = proc.stat()?;
    if first == stat.pid {
        return Ok((proc, stat));
    }
    let proc = ProcDir::open(first)?;
    let layout = proc.stat()?.layout;
    Ok((proc, Stat { layout, ..stat }))
}

fn check_root(root: HostPid) -> Result<(), Error> {
    let status = match ProcDir::open(root).and_then(|dir| dir.status()) {
        Ok(status) => status,
        Err(proc::Error::Gone { .. }) => return Err(Error::NoSuchProcess(root)),
        Err(error) => return Err(error.into()),
    };
    if status.tgid != root {
        return Err(Error::IsThread { tid: root, process: status.tgid });
    }
    if status.kernel_thread {
        return Err(Error::KernelThread(root));
    }
    if status.state == TaskState::Zombie && status.threads <= 1 {
        return Err(Error::RootIsZombie(root));
    }
    Ok(())
}

fn children(dir: &ProcDir, tid: HostPid) -> Result<Vec<HostPid>, Error> {
    match dir.children(tid) {
        Ok(children) => Ok(children),
        Err(proc::Error::Gone { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}
