//! Stops process after process.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use dormouse_kernel::HostPid;
use dormouse_kernel::proc::{self, ProcDir, Stat, TaskState};
use dormouse_kernel::ptrace::{Reaper, Stop, Stopped};

use super::Error;
use crate::dump::frozen::{Frozen, Process, let_go, let_go_all};
use crate::dump::queues::{Looked, Queues};
use crate::dump::sleepers::{Deadline, Sleepers};
use crate::dump::waits::Wait;

/// Stops the tree below `root`, at which was looked while it ran: seizes task
/// after task, and looks for new ones until a whole look round finds none.
pub(crate) fn freeze(
    root: HostPid,
    looked: Looked,
    timeout: Duration,
    is_abandoned: &dyn Fn() -> bool,
) -> Result<Frozen, Error> {
    let queues = Queues::read(&looked);
    let mut freezer = Freezer::new(timeout, looked.parents);
    // Who is not stopped keeps its place, and nobody could wait behind it again. So with queues the
    // tree is stopped as a whole, or as far as it can be, before a dump is given up.
    let gives_up = || queues.is_empty() && is_abandoned();
    let result = freezer.run(root, &gives_up);
    freezer.reaper = None;
    let tasks = std::mem::take(&mut freezer.tasks);
    match result {
        Ok(()) => freezer.arrange(root, tasks, queues),
        Err(error) => {
            let Freezer { waits, deadlines, dirs, with_children, .. } = &freezer;
            let is_target = |tid| dirs.contains_key(&tid) || with_children.contains(&tid);
            let_go_all(tasks.into_values(), is_target, waits, deadlines, &queues);
            Err(error)
        }
    }
}

pub(super) struct Freezer {
    pub(super) timeout: Duration,
    pub(super) deadline: Instant,
    /// Since when others were found to trace tasks.
    pub(super) traced_since: Option<Instant>,
    /// There as soon as a process has several threads.
    pub(super) reaper: Option<Reaper>,
    pub(super) sleepers: Option<Sleepers>,
    pub(super) deadlines: BTreeMap<HostPid, Deadline>,
    pub(super) tasks: BTreeMap<HostPid, Stopped>,
    pub(super) zombies: BTreeSet<HostPid>,
    /// Threads of the kernel's, see [`Self::is_worker`].
    pub(super) workers: BTreeSet<HostPid>,
    /// Threads that had children when the tree was looked at first.
    pub(super) with_children: BTreeSet<HostPid>,
    /// The process and the thread that each process is a child of.
    parents: BTreeMap<HostPid, (HostPid, HostPid)>,
    /// At which place each child was when those of its thread were listed last.
    places: BTreeMap<HostPid, usize>,
    pub(super) members: BTreeMap<HostPid, Vec<HostPid>>,
    pub(super) dirs: BTreeMap<HostPid, ProcDir>,
    pub(super) waits: BTreeMap<HostPid, Wait>,
    /// Processes that threads have gone from since these were listed.
    pub(super) shaken: BTreeSet<HostPid>,
    /// Threads whose children were listed when they stood still.
    pub(super) listed: BTreeSet<HostPid>,
}

impl Freezer {
    fn new(timeout: Duration, with_children: BTreeSet<HostPid>) -> Self {
        Self {
            timeout,
            deadline: Instant::now() + timeout,
            traced_since: None,
            reaper: None,
            sleepers: None,
            deadlines: BTreeMap::new(),
            tasks: BTreeMap::new(),
            zombies: BTreeSet::new(),
            workers: BTreeSet::new(),
            with_children,
            parents: BTreeMap::new(),
            places: BTreeMap::new(),
            members: BTreeMap::new(),
            dirs: BTreeMap::new(),
            waits: BTreeMap::new(),
            shaken: BTreeSet::new(),
            listed: BTreeSet::new(),
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
                    let members = self.members.get(&pid).map_or(&[][..], Vec::as_slice);
                    let led = members.first() == Some(&pid);
                    for &tid in members {
                        // What stands still makes no more, and orphans are given to the first
                        // (`find_alive_thread` in `kernel/exit.c`).
                        if !self.listed.insert(tid) && led && tid != pid {
                            continue;
                        }
                        if let Some(reaper) = &self.reaper {
                            reaper.step();
                        }
                        let listed = children(&self.dirs[&pid], tid)?;
                        for (place, child) in listed.into_iter().enumerate() {
                            self.places.insert(child, place);
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

    pub(super) fn check_time(&self) -> Result<(), Error> {
        if self.is_late() { Err(Error::Timeout(self.timeout)) } else { Ok(()) }
    }

    pub(super) fn is_late(&self) -> bool {
        Instant::now() > self.deadline
    }

    /// Parents first, and the children of each thread in the kernel's order, in which they are
    /// waited for.
    fn arrange(
        mut self,
        root: HostPid,
        mut tasks: BTreeMap<HostPid, Stopped>,
        queues: Queues,
    ) -> Result<Frozen, Error> {
        let mut frozen = Frozen {
            processes: Vec::new(),
            waits: std::mem::take(&mut self.waits),
            deadlines: std::mem::take(&mut self.deadlines),
            queues,
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
            let mut below = children.remove(&pid).unwrap_or_default();
            below.sort_by_key(|child| {
                let thread = self.parents.get(child).map(|&(_, thread)| (thread != pid, thread));
                (thread, self.places.get(child).copied())
            });
            queue.extend(below);
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
