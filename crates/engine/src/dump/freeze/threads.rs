//! Stops the threads of processes.

use std::cell::OnceCell;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::os::linux::fs::MetadataExt;
use std::time::{Duration, Instant};

use dormouse_kernel::HostPid;
use dormouse_kernel::proc::{self, ProcDir, TaskState, VmFlags};
use dormouse_kernel::ptrace::{self, Halt, Halting, Options, Reaper, Running, Stopped};
use tracing::{debug, debug_span};

use super::Error;
use super::tree::Freezer;
use crate::dump::interrupted;
use crate::dump::sleepers::Sleepers;
use crate::dump::waits::Wait;

/// A thread that is to be stopped.
#[derive(Clone, Copy, Debug)]
struct Member {
    pid: HostPid,
    tid: HostPid,
    /// How many its process has.
    threads: usize,
}

impl Freezer {
    /// Stops the threads of some processes that are not stopped yet; tells
    /// whether there were any.
    pub(super) fn stop_processes(&mut self, pids: &[HostPid]) -> Result<bool, Error> {
        let mut there = Vec::new();
        for &pid in pids {
            if self.find(pid)? {
                there.push(pid);
            }
        }
        let mut news = false;
        loop {
            let mut members = Vec::new();
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
                if self.is_shaken(pid, &tids)? {
                    self.shaken.insert(pid);
                }
                let known =
                    |tid: &HostPid| self.tasks.contains_key(tid) || self.workers.contains(tid);
                let unknown = tids.into_iter().filter(|tid| !known(tid));
                members.extend(unknown.map(|tid| Member { pid, tid, threads }));
            }
            let stopped = self.tasks.len();
            self.stop_threads(members)?;
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

    /// Whether threads of a process that had been stopped are not any more, now that these are
    /// listed: one that was not stopped yet may have called `execve(2)`, which ends all others, and
    /// has the number of the first from then on.
    fn is_shaken(&self, pid: HostPid, tids: &[HostPid]) -> Result<bool, Error> {
        let Some(members) = self.members.get(&pid) else { return Ok(false) };
        if members.contains(&pid) && !self.is_at_rest(pid)? {
            return Ok(true);
        }
        let tids: BTreeSet<_> = tids.iter().collect();
        Ok(members.iter().any(|tid| !tids.contains(tid)))
    }

    fn is_at_rest(&self, tid: HostPid) -> Result<bool, Error> {
        Ok(self.tasks.get(&tid).map_or(Ok(false), Stopped::is_at_rest)?)
    }

    /// Forgets threads that had been stopped and are not any more: they were
    /// killed, by somebody or by the `execve(2)` of another thread, which may
    /// have taken over the number of the first.
    fn forget_ended(&mut self, pid: HostPid) -> Result<(), Error> {
        let Some(members) = self.members.remove(&pid) else { return Ok(()) };
        let mut stay = Vec::new();
        for tid in members {
            if self.is_at_rest(tid)? {
                stay.push(tid);
                continue;
            }
            debug!(%tid, "is not stopped any more");
            self.tasks.remove(&tid);
            self.waits.remove(&tid);
            self.deadlines.remove(&tid);
            self.listed.remove(&tid);
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
    ///
    /// A signal that does nothing, such as that of a child's end, is dropped unless the thread it is
    /// sent to is traced. Then it wakes any thread of the process that is not stopped, and if another
    /// takes the signal that one has only been disturbed (`sig_ignored`, `complete_signal` in
    /// `kernel/signal.c`): a call would end with `EINTR`. So who is in such a call is stopped before
    /// anybody else is traced, those last to whom signals are sent: who has children, and the leader.
    fn stop_threads(&mut self, members: Vec<Member>) -> Result<(), Error> {
        const LAST: usize = usize::MAX;
        let mut rounds: BTreeMap<usize, Vec<Member>> = BTreeMap::new();
        let mut targets: BTreeMap<HostPid, usize> = BTreeMap::new();
        for member in members {
            let Member { pid, tid, .. } = member;
            if !self.look(member)? {
                continue;
            }
            let round = if !self.may_answer_eintr(tid) {
                LAST
            } else if tid == pid || self.with_children.contains(&tid) {
                let before = targets.entry(pid).or_default();
                *before += 1;
                *before
            } else {
                0
            };
            rounds.entry(round).or_default().push(member);
        }
        rounds.into_values().try_for_each(|members| self.stop_together(members))
    }

    fn stop_together(&mut self, members: Vec<Member>) -> Result<(), Error> {
        let mut running = Vec::with_capacity(members.len());
        for member in members {
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

    /// Whether a thread is in a call that a stop would end with `EINTR`.
    fn may_answer_eintr(&self, tid: HostPid) -> bool {
        self.waits.get(&tid).is_some_and(Wait::may_answer_eintr)
    }

    /// Looks at a thread that is to be stopped; tells whether it can be.
    fn look(&mut self, member: Member) -> Result<bool, Error> {
        let Member { pid, tid, .. } = member;
        if tid != pid && self.is_worker(pid, tid) {
            self.workers.insert(tid);
            return Ok(false);
        }
        if let Some(wait) = self.await_vfork(pid, tid)? {
            self.waits.insert(tid, wait);
        }
        Ok(true)
    }

    /// Begins to trace a thread; `None` if it has ended.
    fn seize(&mut self, member: Member) -> Result<Option<Running>, Error> {
        const TRIES: u32 = 100;
        let Member { pid, tid, threads } = member;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let options = Options::TRACESYSGOOD | Options::SUSPEND_SECCOMP;
            let refused = match Running::seize(tid, options) {
                Ok(task) => return Ok(Some(task)),
                Err(ptrace::Error::Died { .. }) => break,
                Err(error) => error,
            };
            let status = match self.dirs[&pid].status_of(tid) {
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
                Some(tracer) if self.may_await_end_of(tracer) => {
                    attempt = 0;
                    std::thread::sleep(Duration::from_millis(1));
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

    /// Whether a tracer is about to leave, and there is time to wait for that: it is ending, or it works for a
    /// dormouse that was killed, and undoes what it has begun.
    fn may_await_end_of(&mut self, tracer: HostPid) -> bool {
        /// For all of them.
        const PATIENCE: Duration = Duration::from_secs(1);
        const EXITING: u32 = 4;
        if self.traced_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            return false;
        }
        match ProcDir::open(tracer).and_then(|dir| dir.stat()) {
            Ok(stat) => {
                let is_ending = stat.state.is_dead() || stat.flags & EXITING != 0;
                is_ending || is_own_program(tracer) && !stat.ppid.is_some_and(is_own_program)
            }
            Err(error) => matches!(error, proc::Error::Gone { .. }),
        }
    }

    /// Whether the thread is one of the kernel's, which work on requests of
    /// io_uring for the program (`PF_IO_WORKER`). It stops for nobody, and
    /// makes no system call, though it may look like one in the call that its
    /// maker was in.
    fn is_worker(&self, pid: HostPid, tid: HostPid) -> bool {
        const IO_WORKER: u32 = 0x10;
        let stat = self.dirs[&pid].stat_of(tid);
        stat.is_ok_and(|stat| stat.flags & IO_WORKER != 0)
    }

    /// What a task waits for, which is no `vfork(2)`: nothing but a deadly
    /// signal ends that, so a task that waits there for long is not to be
    /// stopped. As its child is looked for after it, most are over soon.
    fn await_vfork(&self, pid: HostPid, tid: HostPid) -> Result<Option<Wait>, Error> {
        const PATIENCE: Duration = Duration::from_millis(500);
        let begun = Instant::now();
        let dir = &self.dirs[&pid];
        loop {
            let wait = Wait::look(dir, tid);
            let may_be = wait.as_ref().is_some_and(|wait| wait.may_be_vfork(tid));
            if !may_be || dir.stat_of(tid).is_ok_and(|stat| stat.state != TaskState::DiskSleep) {
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
        let tids = running.iter().map(|(member, _)| member.tid);
        let wanted: BTreeMap<_, _> = tids
            .filter_map(|tid| Some((tid, self.waits.get(&tid)?.forgotten_time_out()?)))
            .collect();
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
        let (alone, together): (Vec<_>, Vec<_>) =
            running.into_iter().partition(|(member, _)| self.may_answer_eintr(member.tid));
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
        let _span = debug_span!("task", %pid).entered();
        let dir = &self.dirs[&pid];
        let has_ended = || tid == pid && dir.stat().is_ok_and(|stat| stat.state.is_dead());
        let begun = Instant::now();
        let has_userfaults = OnceCell::new();
        let is_unanswered = || {
            begun.elapsed() > ANSWER && *has_userfaults.get_or_init(|| has_registered_memory(dir))
        };
        let is_over = || has_ended() || self.is_late() || is_unanswered();
        let mut task = match task.and_then(|task| task.finish_unless(is_over)) {
            Ok(Halt::Halted { task, born: _ }) => task,
            Ok(Halt::Ended { .. }) if is_unanswered() && !has_ended() => {
                return Err(Error::Unanswered(tid));
            }
            // By now it may have ended as well, or another task have its number.
            Ok(Halt::Ended { .. }) if self.is_late() && !has_ended() => {
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
        let hidden = interrupted::hide(&mut task);
        if let Some(wait) = self.waits.get(&tid) {
            interrupted::forget_reason(&task, pid, wait);
        }
        self.tasks.insert(tid, task);
        self.members.entry(pid).or_default().push(tid);
        let hidden = match hidden {
            Ok(hidden) => hidden,
            Err(ptrace::Error::Died { .. }) => {
                self.shaken.insert(pid);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let wait = self.waits.get(&tid).zip(hidden);
        if !wait.is_some_and(|(wait, hidden)| wait.is(&hidden)) {
            self.deadlines.remove(&tid);
        }
        Ok(())
    }
}

/// So long a thread may take to stop if it may wait for the handler of a userfaultfd, which is to be
/// stopped, too: within a system call a stop has an access to memory only tried again without a pause
/// (`handle_userfault` in `fs/userfaultfd.c`), and an event nobody has read is waited for as long as it takes.
const ANSWER: Duration = Duration::from_secs(1);

/// Whether a userfaultfd reports faults in the memory of a process.
fn has_registered_memory(process: &ProcDir) -> bool {
    let modes = VmFlags::UFFD_MISSING | VmFlags::UFFD_WP | VmFlags::UFFD_MINOR;
    process.smaps().is_ok_and(|smaps| smaps.iter().any(|smap| smap.flags.intersects(modes)))
}

/// Whether a process runs the program that this one does.
fn is_own_program(pid: HostPid) -> bool {
    let program = |process: &str| {
        let stat = std::fs::metadata(format!("/proc/{process}/exe")).ok()?;
        Some((stat.st_dev(), stat.st_ino()))
    };
    let own = program("self");
    own.is_some() && program(&pid.to_string()) == own
}
