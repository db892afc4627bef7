//! Reads every task, each by one batch that it runs itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dormouse_kernel::proc::{Entry, PosixTimer, ProcDir, Status};
use dormouse_kernel::ptrace::{Registers, Stopped};
use dormouse_kernel::{Addr, HostPid, remote_memory};
use dormouse_puppet::{
    Batch, Borrowed, Host, Interruption, Replies, Slot, interruption, remainder, run_all,
};
use dormouse_resources::memory::{Backing, Dumpable, Mm, Outlook, OutlookAsked, ProtFlags, Vma};
use dormouse_resources::task::{
    Cpu, ExtendedFeatures, Filters, IntervalTimers, Outside, PosixTimers, ProcessPending,
    ProcessState, Property, Seccomp, SyscallDispatch, TaskProbe, ThreadAsked, ThreadClocks,
    ThreadPending, ThreadState,
};

use super::enumerate::Census;
use super::frozen::{Frozen, Process};
use super::interrupted::awaits_signal;
use super::restart_block::{Remembered, RestartBlocks};
use super::sleepers::Deadline;
use super::waits::Wait;
use crate::cause::{At, Cause};
use crate::{Error, Phase};

/// A thread, read.
#[derive(Debug)]
pub(crate) struct Thread {
    /// Its tid.
    pub(crate) tid: HostPid,
    /// Its registers; a call it was interrupted in is made again.
    pub(crate) cpu: Cpu,
    /// How that call was interrupted.
    pub(crate) interrupted: Option<Interruption>,
    /// What was left of that call's time-out.
    pub(crate) time_left: Option<Duration>,
    /// What keeps it from making calls.
    pub(crate) seccomp: Seccomp,
    /// What its program handles of its system calls.
    pub(crate) dispatch: SyscallDispatch,
    /// Everything else.
    pub(crate) state: ThreadState,
}

/// A process, read.
#[derive(Debug)]
pub(crate) struct Living {
    /// What it has as a whole.
    pub(crate) state: ProcessState,
    /// What `/proc` has of it that dormouse writes back itself.
    pub(crate) outside: Outside,
    /// Its POSIX timers.
    pub(crate) timers: PosixTimers,
    /// Its address space, unless a process before it has the same.
    pub(crate) mm: Option<Mm>,
    /// Its threads, the leader first unless it has ended.
    pub(crate) threads: Vec<Thread>,
}

/// What is known of interrupted calls.
struct Calls {
    /// From before.
    waits: BTreeMap<HostPid, Wait>,
    /// Likewise, of those that are made again already.
    deadlines: BTreeMap<HostPid, Deadline>,
    /// In the kernel, when somebody has asked.
    blocks: Option<RestartBlocks>,
}

/// Reads all processes; zombies are left out.
pub(crate) fn collect(
    frozen: &mut Frozen,
    census: &Census,
) -> Result<(BTreeMap<HostPid, Living>, Filters), Error> {
    let mut read = BTreeMap::new();
    let (seccomp, filters) = collect_seccomp(frozen, census)?;
    let mut calls =
        Calls { waits: frozen.waits.clone(), deadlines: frozen.deadlines.clone(), blocks: None };
    for process in frozen.processes.iter_mut().filter(|process| !process.is_zombie()) {
        let pid = process.pid;
        read.insert(
            pid,
            collect_process(process, census, &seccomp, &mut calls).of(Phase::Collect, pid)?,
        );
    }
    Ok((read, filters))
}

/// What keeps threads from making calls. It does not hold for a puppet.
fn collect_seccomp(
    frozen: &Frozen,
    census: &Census,
) -> Result<(BTreeMap<HostPid, Seccomp>, Filters), Error> {
    let (mut seccomp, mut filters) = (BTreeMap::new(), Filters::default());
    for task in frozen.processes.iter().flat_map(|process| &process.threads) {
        let tid = task.tid();
        let mode = census.status[&tid].seccomp;
        seccomp.insert(tid, filters.collect(task, mode).of(Phase::Collect, tid)?);
    }
    Ok((seccomp, filters))
}

/// What a process is asked about its address space.
struct MmAsked {
    brk: Slot,
    dumpable: Slot,
    thp: Slot,
    outlook: Option<OutlookAsked>,
}

fn collect_process(
    process: &mut Process,
    census: &Census,
    seccomp: &BTreeMap<HostPid, Seccomp>,
    calls: &mut Calls,
) -> Result<Living, Cause> {
    let owner = census.memory.owner(process.first());
    let space = &census.spaces[&owner];
    let vdso = space.vmas.iter().find(|vma| vma.backing == Backing::Vdso).map(|vma| vma.range);
    let code = |vma: &&Vma| vma.prot.contains(ProtFlags::EXEC) && vma.is_private();
    let code = space.vmas.iter().filter(code).map(|vma| vma.range);
    let host = Host::prepare(&process.proc, vdso, code)?.quietly(census.watches_signals());
    let mut clocks = ThreadClocks::new(process.threads.len());
    let result = collect_threads(process, census, (&host, &mut clocks, seccomp), calls).and_then(
        |(mut state, answers, mut threads)| {
            let timers = settle(process, census, (&host, &clocks), (&mut state, &mut threads))?;
            Ok((state, answers, threads, timers))
        },
    );
    // Whatever came of it, the code goes.
    host.leave()?;
    let (state, answers, threads, timers) = result?;
    let bytes = process.proc.read(Entry::Named("auxv"))?;
    let (words, _) = bytes.as_chunks::<8>();
    let mm = (owner == process.first()).then(|| Mm {
        layout: process.stat.layout,
        brk: Addr::from_raw(answers.brk),
        auxv: auxv(words),
        exe: census.executables[&owner],
        dumpable: Dumpable::from_raw(answers.dumpable).unwrap_or(Dumpable::No),
        thp_disabled: answers.thp_disabled,
        outlook: answers.outlook,
        vmas: space.vmas.clone(),
        guards: space.guards.clone(),
    });
    let outside = Outside::collect(&process.proc)?;
    Ok(Living { state, outside, timers, mm, threads })
}

struct MmAnswers {
    brk: u64,
    dumpable: i32,
    thp_disabled: bool,
    outlook: Outlook,
}

/// What threads of a process are read with.
struct Reader<'a> {
    pid: HostPid,
    proc: &'a ProcDir,
    census: &'a Census,
    seccomp: &'a BTreeMap<HostPid, Seccomp>,
    timers: &'a [PosixTimer],
    clocks: &'a mut ThreadClocks,
    calls: &'a mut Calls,
}

fn collect_threads(
    process: &mut Process,
    census: &Census,
    (host, clocks, seccomp): (&Host, &mut ThreadClocks, &BTreeMap<HostPid, Seccomp>),
    calls: &mut Calls,
) -> Result<(ProcessState, MmAnswers, Vec<Thread>), Cause> {
    let timers = process.proc.timers()?;
    let (pid, proc, timers) = (process.pid, &process.proc, &timers[..]);
    let mut reader = Reader { pid, proc, census, seccomp, timers, clocks, calls };
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
            let (some, read) = puppet.lend(some, |lent| reader.others(lent))?;
            back.extend(some);
            threads.extend(read?);
        }
        Ok::<_, Cause>((state, mm, threads))
    })?;
    let mut result = result;
    // There was no place for more than one at a time; or something failed.
    for task in tasks {
        let Ok((_, _, threads)) = &mut result else {
            back.push(task);
            continue;
        };
        let of_task = status(&task);
        let (task, read) =
            host.borrow(task, of_task, |puppet| reader.others(std::slice::from_mut(puppet)))?;
        back.push(task);
        match read {
            Ok(read) => threads.extend(read),
            Err(error) => result = Err(error),
        }
    }
    process.threads = std::iter::once(first).chain(back).collect();
    result
}

impl Reader<'_> {
    /// Reads the first thread, and what the process has as a whole.
    fn first(
        &mut self,
        puppet: &mut Borrowed<'_>,
    ) -> Result<(Thread, ProcessState, MmAnswers), Cause> {
        let mut batch = Batch::new();
        let fresh = puppet.room();
        let before = self.clocks.look(self.timers, &mut batch);
        let asked = ThreadState::ask(&mut batch);
        let mm = MmAsked {
            brk: batch.call(libc::SYS_brk, [0.into()]),
            dumpable: batch.call(libc::SYS_prctl, [libc::PR_GET_DUMPABLE.into()]),
            thp: batch.call(
                libc::SYS_prctl,
                [libc::PR_GET_THP_DISABLE.into(), 0.into(), 0.into(), 0.into(), 0.into()],
            ),
            outlook: fresh.map(|fresh| Outlook::ask(&mut batch, fresh)),
        };
        let whole = ProcessState::ask(&mut batch);
        let after = self.clocks.look(self.timers, &mut batch);
        let replies = puppet.run(batch)?;
        self.clocks.note(puppet.task().tid(), &replies, (&before, &after));
        let thread = self.thread(puppet, &replies, asked)?;
        let probe = self.probe(puppet, self.proc);
        let state = ProcessState::collect(&probe, &replies, whole)?;
        let mm = MmAnswers {
            brk: replies.value(&mm.brk),
            dumpable: replies.value(&mm.dumpable) as i32,
            thp_disabled: replies.value(&mm.thp) != 0,
            outlook: mm.outlook.map(|asked| Outlook::collect(&replies, &asked)).unwrap_or_default(),
        };
        Ok((thread, state, mm))
    }

    /// Reads other threads, at the same time.
    fn others(&mut self, puppets: &mut [Borrowed<'_>]) -> Result<Vec<Thread>, Cause> {
        let (mut batches, mut asked) = (Vec::new(), Vec::new());
        for _ in &*puppets {
            let mut batch = Batch::new();
            let before = self.clocks.look(self.timers, &mut batch);
            let state = ThreadState::ask(&mut batch);
            let after = self.clocks.look(self.timers, &mut batch);
            batches.push(batch);
            asked.push((before, state, after));
        }
        let replies = run_all(puppets, batches)?;
        let mut threads = Vec::with_capacity(puppets.len());
        for ((puppet, replies), (before, state, after)) in puppets.iter().zip(&replies).zip(asked) {
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
        let dir = self.proc.task(tid)?;
        let state = ThreadState::collect(&self.probe(puppet, &dir), replies, asked)?;
        let xstate = puppet.task().xstate()?;
        ExtendedFeatures::check(tid, &xstate)?;
        let status = &self.census.status[&tid];
        let (interrupted, time_left, registers) =
            interrupted_call(tid, *puppet.registers(), status, self.calls);
        let cpu = Cpu { registers, xstate };
        let seccomp = self.seccomp[&tid];
        let dispatch = self.census.dispatch[&tid];
        Ok(Thread { tid, cpu, interrupted, time_left, seccomp, dispatch, state })
    }

    fn probe<'p>(&'p self, puppet: &'p Borrowed<'_>, proc: &'p ProcDir) -> TaskProbe<'p> {
        let tid = puppet.task().tid();
        TaskProbe {
            tid,
            process: self.pid,
            proc,
            status: &self.census.status[&tid],
            mask: puppet.mask(),
            stopped: puppet.task(),
        }
    }
}

/// Reads timers, and once more the signals that wait: so that a timer which
/// expires meanwhile is taken either for one that still runs or for one whose
/// signal is there, and not for both.
fn settle(
    process: &mut Process,
    census: &Census,
    (host, clocks): (&Host, &ThreadClocks),
    (state, threads): (&mut ProcessState, &mut [Thread]),
) -> Result<PosixTimers, Cause> {
    // Timers that expire faster than they can be read will not settle.
    const TRIES: usize = 16;
    let timers = process.proc.timers()?;
    let tids = process.threads.iter().map(Stopped::tid).collect();
    let mut posix = PosixTimers::default();
    for _ in 0..TRIES {
        if timers.is_empty() && state.interval_timers.soonest().is_none() {
            break;
        }
        let begun = Instant::now();
        let first = process.threads.remove(0);
        let status = &census.status[&first.tid()];
        let (first, read) = host.borrow(first, status, |puppet| {
            let mut batch = Batch::new();
            let interval = IntervalTimers::ask(&mut batch);
            let interval = IntervalTimers::read(&puppet.run(batch)?, interval);
            let mut posix = PosixTimers::default();
            for timers in timers.chunks(PosixTimers::AT_ONCE) {
                let mut batch = Batch::new();
                let asked = PosixTimers::ask(timers, &mut batch);
                let answers = (&puppet.run(batch)?, &asked);
                posix.collect(process.pid, timers, &tids, answers, clocks)?;
            }
            Ok::<_, Cause>((interval, posix))
        })?;
        process.threads.insert(0, first);
        (state.interval_timers, posix) = read?;
        state.pending = ProcessPending::peek(&process.threads[0])?;
        for (thread, task) in threads.iter_mut().zip(&process.threads) {
            thread.state.pending = ThreadPending::peek(task)?;
        }
        let soonest = [state.interval_timers.soonest(), posix.soonest()].into_iter().flatten();
        if soonest.min().is_none_or(|soonest| soonest > begun.elapsed()) {
            break;
        }
    }
    Ok(posix)
}

/// How a task was interrupted in a call, what is left of the call's time-out,
/// and registers that make it again.
fn interrupted_call(
    tid: HostPid,
    registers: Registers,
    status: &Status,
    Calls { waits, deadlines, blocks }: &mut Calls,
) -> (Option<Interruption>, Option<Duration>, Registers) {
    if let Some(deadline) = deadlines.get(&tid) {
        return (Some(Interruption::Interrupted), Some(deadline.left()), registers);
    }
    let Some(interrupted) = interruption(&registers, awaits_signal(status)) else {
        return (None, None, registers);
    };
    let again = Interruption::call_again(&registers);
    let wait = waits.get(&tid);
    if interrupted != Interruption::RestartBlock {
        return (Some(interrupted), None, again);
    }
    let blocks = blocks.get_or_insert_with(RestartBlocks::read);
    match blocks.of(tid, &registers) {
        Some(Remembered { number, time_left }) => {
            let left = time_left.or_else(|| told_remainder(tid, number, &registers));
            if let Some(wait) = wait {
                wait.forget_remainder(tid, &registers, number);
            }
            (Some(interrupted), left, Registers { rax: number, ..again })
        }
        None => (Some(interrupted), None, again),
    }
}

/// What an interrupted sleep has told its program of the time left.
fn told_remainder(tid: HostPid, number: u64, registers: &Registers) -> Option<Duration> {
    let Registers { rdi, rsi, rdx, r10, r8, r9, .. } = *registers;
    let at = remainder(number.cast_signed(), &[rdi, rsi, rdx, r10, r8, r9])?;
    let mut bytes = [0; 16];
    remote_memory::read_exact(tid, Addr::from_raw(at), &mut bytes).ok()?;
    let (words, _) = bytes.as_chunks::<8>();
    let nanos = u32::try_from(u64::from_ne_bytes(words[1])).ok()?;
    (nanos < 1_000_000_000).then(|| Duration::new(u64::from_ne_bytes(words[0]), nanos))
}

/// The vector without its end marks (`AT_NULL`), which the kernel fills in
/// again; CRIU takes no more than 44 words.
fn auxv(words: &[[u8; 8]]) -> Vec<u64> {
    let mut auxv: Vec<u64> = words.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    while auxv.ends_with(&[0, 0]) {
        auxv.truncate(auxv.len() - 2);
    }
    auxv
}
