//! Threads that answer one batch each.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_kernel::proc::{PosixTimer, ProcDir};
use dormouse_kernel::ptrace::Stopped;
use dormouse_kernel::signal::SigInfo;
use dormouse_kernel::{Addr, HostPid};
use dormouse_puppet::{
    Batch, Borrowed, Host, OutSlot, Replies, Slot, borrow_each, run_all, run_each,
};
use dormouse_resources::memory::{Backing, Outlook, OutlookAsked, TransparentHugePages, Vma};
use dormouse_resources::task::{
    Cpu, ExtendedFeatures, Look, MappingAsked, ProcessAsked, ProcessState, Refusal, RegisteredRing,
    Seccomp, TaskProbe, ThreadAreas, ThreadAsked, ThreadClocks, ThreadState,
};

use super::Thread;
use super::calls::{Calls, interrupted_call};
use crate::cause::Cause;
use crate::dump::enumerate::Census;
use crate::dump::keyrings::Possessions;

/// So many mappings a process is asked about with everything else, and so many in a batch of their own.
const FIRST_MAPPINGS: usize = 500;
const MORE_MAPPINGS: usize = 3000;

/// What a process is asked about its address space.
struct MmAsked {
    brk: Slot,
    dumpable: Slot,
    thp: Slot,
    outlook: Option<OutlookAsked>,
    policies: Vec<MappingAsked>,
}

/// What it has answered.
pub(super) struct Answers {
    pub(super) continued: BTreeSet<HostPid>,
    pub(super) brk: u64,
    pub(super) dumpable: i32,
    pub(super) huge_pages: TransparentHugePages,
    pub(super) outlook: Outlook,
}

/// A process whose threads are to be read.
pub(super) struct Reading<'a> {
    pub(super) pid: HostPid,
    pub(super) proc: &'a ProcDir,
    pub(super) host: &'a Host,
    pub(super) timers: Vec<PosixTimer>,
    pub(super) clocks: ThreadClocks,
    /// Those of its children that job control does not hold.
    pub(super) children: Vec<HostPid>,
    /// The first is taken from it at once.
    pub(super) threads: Vec<Stopped>,
}

/// What a process has told of itself, its address space and its threads.
pub(super) type Told = (ProcessState, Answers, Vec<Thread>);

/// What threads are read with.
pub(super) struct Reader<'a> {
    pub(super) census: &'a Census,
    pub(super) seccomp: &'a BTreeMap<HostPid, Seccomp>,
    pub(super) calls: &'a mut Calls,
}

/// A cause, and of which process.
type Of = (usize, Cause);

/// What the first thread of a process is asked.
struct FirstAsked {
    looks: (Look, Look),
    thread: ThreadAsked,
    keys: Vec<Slot>,
    ring: RegisteredRing,
    mm: MmAsked,
    continued: Option<OutSlot>,
    whole: ProcessAsked,
}

impl Reader<'_> {
    /// Has the threads of processes that share no memory tell of themselves, and the first of each
    /// of the whole: the first of all at once.
    pub(super) fn read(&mut self, readings: &mut [Reading<'_>]) -> Result<Vec<Told>, Of> {
        let census = self.census;
        let status = |task: &Stopped| &census.status[&task.tid()];
        let firsts = readings.iter_mut().map(|reading| {
            let first = reading.threads.remove(0);
            let of_first = status(&first);
            (reading.host, first, of_first)
        });
        let firsts = firsts.collect();
        // The first has the memory for the calls of all.
        let (firsts, result) = borrow_each(firsts, |puppets| {
            let asked = readings.iter().zip(&*puppets);
            let (batches, asked): (Vec<_>, Vec<_>) =
                asked.map(|(reading, puppet)| self.ask_first(reading, puppet)).unzip();
            let replies =
                run_each(puppets, &batches).map_err(|(index, error)| (index, error.into()))?;
            let mut told = Vec::with_capacity(asked.len());
            let heard = readings.iter_mut().zip(puppets).zip(replies.iter().zip(asked));
            for (index, ((reading, puppet), heard)) in heard.enumerate() {
                let read = self.hear_first(reading, puppet, heard);
                let (mut threads, state, mm) = read.map_err(|cause| (index, cause))?;
                self.lend(reading, puppet, &mut threads).map_err(|cause| (index, cause))?;
                told.push((state, mm, threads));
            }
            Ok(told)
        });
        for (reading, first) in readings.iter_mut().zip(firsts) {
            reading.threads.splice(0..0, first);
        }
        let mut told = result?;
        for (index, (reading, (_, _, threads))) in readings.iter_mut().zip(&mut told).enumerate() {
            self.read_rest(reading, threads).map_err(|cause| (index, cause))?;
        }
        Ok(told)
    }

    /// Reads the other threads of a process, as many at a time as there is place for.
    fn lend(
        &mut self,
        reading: &mut Reading<'_>,
        puppet: &mut Borrowed<'_>,
        threads: &mut Vec<Thread>,
    ) -> Result<(), Cause> {
        let census = self.census;
        let mut tasks = std::mem::take(&mut reading.threads).into_iter();
        let mut back = Vec::with_capacity(tasks.len());
        let mut result = Ok(());
        while puppet.lends_to() > 0 && result.is_ok() && !tasks.as_slice().is_empty() {
            let are_open = reading.clocks.are_open(&reading.timers);
            let some = if are_open { 1 } else { puppet.lends_to() };
            let some = tasks.by_ref().take(some).map(|task| {
                let status = &census.status[&task.tid()];
                (task, status)
            });
            let (some, read) = puppet.lend(some, |lent| self.others(reading, lent));
            back.extend(some);
            result = read.map(|read| threads.extend(read));
        }
        back.extend(tasks);
        reading.threads = back;
        result
    }

    /// Reads threads for which there was no place beside the first.
    fn read_rest(
        &mut self,
        reading: &mut Reading<'_>,
        threads: &mut Vec<Thread>,
    ) -> Result<(), Cause> {
        let census = self.census;
        let mut tasks = std::mem::take(&mut reading.threads).into_iter();
        let mut back: Vec<_> = tasks.by_ref().take(threads.len()).collect();
        let mut result = Ok(());
        while result.is_ok()
            && let Some(task) = tasks.next()
        {
            let status = &census.status[&task.tid()];
            let (task, read) = reading
                .host
                .borrow(task, status, |puppet| self.others(reading, std::slice::from_mut(puppet)));
            back.extend(task);
            result = read.map(|read| threads.extend(read));
        }
        back.extend(tasks);
        reading.threads = back;
        result
    }

    /// Asks the first thread, also for what the process has as a whole.
    fn ask_first(&self, reading: &Reading<'_>, puppet: &Borrowed<'_>) -> (Batch, FirstAsked) {
        let Reading { timers, clocks, children, .. } = reading;
        let mut batch = Batch::new();
        let fresh = puppet.room();
        let before = clocks.look(timers, &mut batch);
        let thread = ThreadState::ask(&mut batch);
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
            policies: self
                .mappings(puppet)
                .take(FIRST_MAPPINGS)
                .map(|at| MappingAsked::ask(&mut batch, at))
                .collect(),
        };
        let continued = (!children.is_empty()).then(|| ask_continued(&mut batch, None));
        let whole = ProcessState::ask(&mut batch);
        let looks = (before, clocks.look(timers, &mut batch));
        (batch, FirstAsked { looks, thread, keys, ring, mm, continued, whole })
    }

    /// Where those mappings begin that may have a policy, if this task is asked about its address
    /// space.
    fn mappings(&self, puppet: &Borrowed<'_>) -> impl Iterator<Item = Addr> {
        let space = self.census.spaces.get(&puppet.task().tid());
        let vmas = space.into_iter().flat_map(|space| &space.vmas);
        let of_kernel =
            |vma: &&Vma| matches!(vma.backing, Backing::Vdso | Backing::Vvar | Backing::Vsyscall);
        vmas.filter(move |vma| !of_kernel(vma)).map(|vma| vma.range.start())
    }

    /// Refuses mappings with policies.
    fn check_mappings(
        &self,
        puppet: &mut Borrowed<'_>,
        (replies, first): (&Replies, &[MappingAsked]),
    ) -> Result<(), Cause> {
        first.iter().try_for_each(|asked| asked.check(replies))?;
        let rest: Vec<_> = self.mappings(puppet).skip(FIRST_MAPPINGS).collect();
        for some in rest.chunks(MORE_MAPPINGS) {
            let mut batch = Batch::new();
            let asked: Vec<_> = some.iter().map(|&at| MappingAsked::ask(&mut batch, at)).collect();
            let replies = puppet.run(batch)?;
            asked.iter().try_for_each(|asked| asked.check(&replies))?;
        }
        Ok(())
    }

    /// Puts together what it has answered.
    fn hear_first(
        &mut self,
        reading: &mut Reading<'_>,
        puppet: &mut Borrowed<'_>,
        (replies, asked): (&Replies, FirstAsked),
    ) -> Result<(Vec<Thread>, ProcessState, Answers), Cause> {
        let FirstAsked { looks: (before, after), thread, keys, ring, mm, continued, whole } = asked;
        reading.clocks.note(puppet.task().tid(), replies, (&before, &after));
        Possessions::check(replies, &keys)?;
        check_rings(puppet, replies, &ring)?;
        self.check_mappings(puppet, (replies, &mm.policies))?;
        let thread = self.thread(reading, puppet, (replies, thread))?;
        let probe = self.probe(reading, puppet);
        let state = ProcessState::collect(&probe, replies, whole)?;
        let huge_pages = replies.value(&mm.thp);
        let huge_pages = TransparentHugePages::from_raw(huge_pages)
            .ok_or(Cause::Unsupported(Refusal::HugePageRule))?;
        let some = continued.is_some_and(|asked| is_child(replies, &asked));
        let continued =
            if some { continued_children(&reading.children, puppet)? } else { BTreeSet::new() };
        let mm = Answers {
            continued,
            brk: replies.value(&mm.brk),
            dumpable: replies.value(&mm.dumpable) as i32,
            huge_pages,
            outlook: mm.outlook.map(|asked| Outlook::collect(replies, &asked)).unwrap_or_default(),
        };
        Ok((vec![thread], state, mm))
    }

    /// Reads other threads, at the same time.
    fn others(
        &mut self,
        reading: &mut Reading<'_>,
        puppets: &mut [Borrowed<'_>],
    ) -> Result<Vec<Thread>, Cause> {
        let (mut batches, mut asked) = (Vec::new(), Vec::new());
        for _ in &*puppets {
            let mut batch = Batch::new();
            let before = reading.clocks.look(&reading.timers, &mut batch);
            let state = ThreadState::ask(&mut batch);
            let keys = self.census.possessions.ask(&mut batch);
            let ring = RegisteredRing::ask(&mut batch);
            let after = reading.clocks.look(&reading.timers, &mut batch);
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
            reading.clocks.note(puppet.task().tid(), replies, (&before, &after));
            threads.push(self.thread(reading, puppet, (replies, state))?);
        }
        Ok(threads)
    }

    fn thread(
        &mut self,
        reading: &Reading<'_>,
        puppet: &Borrowed<'_>,
        (replies, asked): (&Replies, ThreadAsked),
    ) -> Result<Thread, Cause> {
        let tid = puppet.task().tid();
        let state = ThreadState::collect(&self.probe(reading, puppet), replies, asked)?;
        let xstate = puppet.task().xstate()?;
        ExtendedFeatures::check(tid, &xstate)?;
        let (interrupted, time_left, registers) =
            interrupted_call(tid, *puppet.registers(), self.calls);
        let cpu = Cpu { registers, xstate };
        let areas = ThreadAreas::collect(puppet.task())?;
        let seccomp = self.seccomp[&tid];
        let dispatch = self.census.dispatch[&tid];
        let turn = self.calls.turns.get(&tid).copied();
        Ok(Thread { tid, cpu, areas, interrupted, time_left, turn, seccomp, dispatch, state })
    }

    fn probe<'p>(&'p self, reading: &'p Reading<'_>, puppet: &'p Borrowed<'_>) -> TaskProbe<'p> {
        let tid = puppet.task().tid();
        TaskProbe {
            tid,
            process: reading.pid,
            proc: reading.proc,
            status: &self.census.status[&tid],
            mask: puppet.mask(),
            rseq: puppet.rseq(),
            stopped: puppet.task(),
        }
    }
}

/// The children that a process has still to be told of that they go on.
fn continued_children(
    children: &[HostPid],
    puppet: &mut Borrowed<'_>,
) -> Result<BTreeSet<HostPid>, Cause> {
    /// So many answers have a place at once.
    const AT_ONCE: usize = 8;
    let mut continued = BTreeSet::new();
    for some in children.chunks(AT_ONCE) {
        let mut batch = Batch::new();
        let asked: Vec<_> =
            some.iter().map(|&child| (child, ask_continued(&mut batch, Some(child)))).collect();
        let replies = puppet.run(batch)?;
        let told = asked.iter().filter(|(_, asked)| is_child(&replies, asked));
        continued.extend(told.map(|&(child, _)| child));
    }
    Ok(continued)
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
