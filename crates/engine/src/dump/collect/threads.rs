//! Threads that answer one batch each.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_kernel::HostPid;
use dormouse_kernel::proc::{PosixTimer, ProcDir};
use dormouse_kernel::ptrace::Stopped;
use dormouse_kernel::signal::SigInfo;
use dormouse_puppet::{Batch, Borrowed, Host, OutSlot, Replies, Slot, run_all};
use dormouse_resources::memory::{Outlook, OutlookAsked, TransparentHugePages};
use dormouse_resources::task::{
    Cpu, ExtendedFeatures, ProcessState, Refusal, RegisteredRing, Seccomp, TaskProbe, ThreadAreas,
    ThreadAsked, ThreadClocks, ThreadState,
};

use super::Thread;
use super::calls::{Calls, interrupted_call};
use crate::cause::Cause;
use crate::dump::enumerate::Census;
use crate::dump::frozen::Process;
use crate::dump::keyrings::Possessions;

/// What a process is asked about its address space.
struct MmAsked {
    brk: Slot,
    dumpable: Slot,
    thp: Slot,
    outlook: Option<OutlookAsked>,
}

/// What it has answered.
pub(super) struct Answers {
    pub(super) continued: BTreeSet<HostPid>,
    pub(super) brk: u64,
    pub(super) dumpable: i32,
    pub(super) huge_pages: TransparentHugePages,
    pub(super) outlook: Outlook,
}

/// What threads of a process are read with.
struct Reader<'a> {
    pid: HostPid,
    proc: &'a ProcDir,
    census: &'a Census,
    seccomp: &'a BTreeMap<HostPid, Seccomp>,
    timers: &'a [PosixTimer],
    clocks: &'a mut ThreadClocks,
    /// Those of its children that job control does not hold.
    children: &'a [HostPid],
    calls: &'a mut Calls,
}

/// Has the threads of a process tell of themselves, and the first of the whole.
pub(super) fn read(
    process: &mut Process,
    census: &Census,
    (host, clocks, seccomp): (&Host, &mut ThreadClocks, &BTreeMap<HostPid, Seccomp>),
    (children, calls): (&[HostPid], &mut Calls),
) -> Result<(ProcessState, Answers, Vec<Thread>), Cause> {
    let timers = process.proc.timers()?;
    let (pid, proc, timers) = (process.pid, &process.proc, &timers[..]);
    let mut reader = Reader { pid, proc, census, seccomp, timers, clocks, children, calls };
    let mut tasks = std::mem::take(&mut process.threads).into_iter();
    let status = |task: &Stopped| &census.status[&task.tid()];
    let first = tasks.next().expect("what has no thread left is not read");
    let of_first = status(&first);
    let mut back = Vec::new();
    // The first has the memory for the calls of all.
    let (first, result) = host.borrow(first, of_first, |puppet| {
        let (thread, state, mm) = reader.first(puppet)?;
        let mut threads = vec![thread];
        while puppet.lends_to() > 0 && !tasks.as_slice().is_empty() {
            let some = if reader.clocks.are_open(timers) { 1 } else { puppet.lends_to() };
            let some = tasks.by_ref().take(some).map(|task| {
                let status = status(&task);
                (task, status)
            });
            let (some, read) = puppet.lend(some, |lent| reader.others(lent));
            back.extend(some);
            threads.extend(read?);
        }
        Ok::<_, Cause>((state, mm, threads))
    });
    let mut result = result;
    // There was no place for more than one at a time; or something failed.
    for task in tasks {
        let Ok((_, _, threads)) = &mut result else {
            back.push(task);
            continue;
        };
        let of_task = status(&task);
        let (task, read) =
            host.borrow(task, of_task, |puppet| reader.others(std::slice::from_mut(puppet)));
        back.extend(task);
        match read {
            Ok(read) => threads.extend(read),
            Err(error) => result = Err(error),
        }
    }
    process.threads = first.into_iter().chain(back).collect();
    result
}

impl Reader<'_> {
    /// Reads the first thread, and what the process has as a whole.
    fn first(
        &mut self,
        puppet: &mut Borrowed<'_>,
    ) -> Result<(Thread, ProcessState, Answers), Cause> {
        let mut batch = Batch::new();
        let fresh = puppet.room();
        let before = self.clocks.look(self.timers, &mut batch);
        let asked = ThreadState::ask(&mut batch);
        let keys = self.census.possessions.ask(&mut batch);
        let ring = RegisteredRing::ask(&mut batch);
        let mm = MmAsked {
            brk: batch.call(libc::SYS_brk, [0.into()]),
            dumpable: batch.call(libc::SYS_prctl, [libc::PR_GET_DUMPABLE.into()]),
            thp: batch.call(
                libc::SYS_prctl,
                [libc::PR_GET_THP_DISABLE.into(), 0.into(), 0.into(), 0.into(), 0.into()],
            ),
            outlook: fresh.map(|fresh| Outlook::ask(&mut batch, fresh)),
        };
        let continued = (!self.children.is_empty()).then(|| ask_continued(&mut batch, None));
        let whole = ProcessState::ask(&mut batch);
        let after = self.clocks.look(self.timers, &mut batch);
        let replies = puppet.run(batch)?;
        self.clocks.note(puppet.task().tid(), &replies, (&before, &after));
        Possessions::check(&replies, &keys)?;
        check_rings(puppet, &replies, &ring)?;
        let thread = self.thread(puppet, &replies, asked)?;
        let probe = self.probe(puppet);
        let state = ProcessState::collect(&probe, &replies, whole)?;
        let huge_pages = replies.value(&mm.thp);
        let huge_pages = TransparentHugePages::from_raw(huge_pages)
            .ok_or(Cause::Unsupported(Refusal::HugePageRule))?;
        let some = continued.is_some_and(|asked| is_child(&replies, &asked));
        let continued = if some { self.continued(puppet)? } else { BTreeSet::new() };
        let mm = Answers {
            continued,
            brk: replies.value(&mm.brk),
            dumpable: replies.value(&mm.dumpable) as i32,
            huge_pages,
            outlook: mm.outlook.map(|asked| Outlook::collect(&replies, &asked)).unwrap_or_default(),
        };
        Ok((thread, state, mm))
    }

    /// The children that the process has still to be told of that they go on.
    fn continued(&self, puppet: &mut Borrowed<'_>) -> Result<BTreeSet<HostPid>, Cause> {
        /// So many answers have a place at once.
        const AT_ONCE: usize = 8;
        let mut continued = BTreeSet::new();
        for some in self.children.chunks(AT_ONCE) {
            let mut batch = Batch::new();
            let asked: Vec<_> =
                some.iter().map(|&child| (child, ask_continued(&mut batch, Some(child)))).collect();
            let replies = puppet.run(batch)?;
            let told = asked.iter().filter(|(_, asked)| is_child(&replies, asked));
            continued.extend(told.map(|&(child, _)| child));
        }
        Ok(continued)
    }

    /// Reads other threads, at the same time.
    fn others(&mut self, puppets: &mut [Borrowed<'_>]) -> Result<Vec<Thread>, Cause> {
        let (mut batches, mut asked) = (Vec::new(), Vec::new());
        for _ in &*puppets {
            let mut batch = Batch::new();
            let before = self.clocks.look(self.timers, &mut batch);
            let state = ThreadState::ask(&mut batch);
            let keys = self.census.possessions.ask(&mut batch);
            let ring = RegisteredRing::ask(&mut batch);
            let after = self.clocks.look(self.timers, &mut batch);
            batches.push(batch);
            asked.push((before, (state, keys, ring), after));
        }
        let replies = run_all(puppets, batches)?;
        let mut threads = Vec::with_capacity(puppets.len());
        for ((puppet, replies), (before, (state, keys, ring), after)) in
            puppets.iter_mut().zip(&replies).zip(asked)
        {
            Possessions::check(replies, &keys)?;
            check_rings(puppet, replies, &ring)?;
            self.clocks.note(puppet.task().tid(), replies, (&before, &after));
            threads.push(self.thread(puppet, replies, state)?);
        }
        Ok(threads)
    }

    fn thread(
        &mut self,
        puppet: &Borrowed<'_>,
        replies: &Replies,
        asked: ThreadAsked,
    ) -> Result<Thread, Cause> {
        let tid = puppet.task().tid();
        let state = ThreadState::collect(&self.probe(puppet), replies, asked)?;
        let xstate = puppet.task().xstate()?;
        ExtendedFeatures::check(tid, &xstate)?;
        let status = &self.census.status[&tid];
        let (interrupted, time_left, registers) =
            interrupted_call(tid, *puppet.registers(), status, self.calls);
        let cpu = Cpu { registers, xstate };
        let areas = ThreadAreas::collect(puppet.task())?;
        let seccomp = self.seccomp[&tid];
        let dispatch = self.census.dispatch[&tid];
        let turn = self.calls.turns.get(&tid).copied();
        Ok(Thread { tid, cpu, areas, interrupted, time_left, turn, seccomp, dispatch, state })
    }

    fn probe<'p>(&'p self, puppet: &'p Borrowed<'_>) -> TaskProbe<'p> {
        let tid = puppet.task().tid();
        TaskProbe {
            tid,
            process: self.pid,
            proc: self.proc,
            status: &self.census.status[&tid],
            mask: puppet.mask(),
            rseq: puppet.rseq(),
            stopped: puppet.task(),
        }
    }
}

/// Asks whether a child, or any, goes on after a stop, which stays to be told.
fn ask_continued(batch: &mut Batch, child: Option<HostPid>) -> OutSlot {
    let info = batch.out(SigInfo::SIZE);
    let (which, number) = child.map_or((libc::P_ALL, 0), |child| (libc::P_PID, child.as_raw()));
    let options = libc::WCONTINUED | libc::WNOWAIT | libc::WNOHANG | libc::__WALL;
    let args = [which.into(), number.into(), (&info).into(), options.into(), 0.into()];
    batch.call(libc::SYS_waitid, args);
    info
}

/// Whether a child is what was asked for.
fn is_child(replies: &Replies, asked: &OutSlot) -> bool {
    SigInfo::from_bytes(*replies.array(asked)).signal().is_some()
}

/// Refuses a thread that has rings of io_uring under names which are no descriptors.
fn check_rings(
    puppet: &mut Borrowed<'_>,
    replies: &Replies,
    first: &RegisteredRing,
) -> Result<(), Cause> {
    if !first.is_possible(replies) {
        return Ok(());
    }
    let mut batch = Batch::new();
    let asked = RegisteredRing::ask_all(&mut batch);
    let replies = puppet.run(batch)?;
    let tid = puppet.task().tid();
    Ok(asked.iter().try_for_each(|ring| ring.refuse(tid, &replies))?)
}
