//! Reads every task, each by one batch that it runs itself.

mod calls;
mod domains;
mod threads;
mod timers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dormouse_kernel::proc::Entry;
use dormouse_kernel::{Addr, HostPid};
use dormouse_puppet::{Host, Interruption};
use dormouse_resources::memory::{Backing, Dumpable, Mm, ProtFlags, Vma};
use dormouse_resources::task::{
    Cpu, Filters, Outside, PosixTimers, ProcessState, Seccomp, SyscallDispatch, ThreadAreas,
    ThreadClocks, ThreadState,
};
use tracing::debug;

use super::enumerate::Census;
use super::frozen::{Frozen, Process};
use crate::cause::{At, Cause};
use crate::{Error, Phase};
use calls::Calls;
use threads::{Reader, Reading, Told};

/// A thread, read.
#[derive(Debug)]
pub(crate) struct Thread {
    /// Its tid.
    pub(crate) tid: HostPid,
    /// Its registers; a call it was interrupted in is made again.
    pub(crate) cpu: Cpu,
    /// Areas of memory that it has described to the processor.
    pub(crate) areas: ThreadAreas,
    /// How that call was interrupted.
    pub(crate) interrupted: Option<Interruption>,
    /// What was left of that call's time-out.
    pub(crate) time_left: Option<Duration>,
    /// Its turn among those who wait in epolls with others.
    pub(crate) turn: Option<u32>,
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
    /// Which of its children it has still to be told of that they go on after a stop.
    pub(crate) continued: BTreeSet<HostPid>,
}

/// Reads all processes; zombies are left out.
pub(crate) fn collect(
    frozen: &mut Frozen,
    census: &Census,
) -> Result<(BTreeMap<HostPid, Living>, Filters), Error> {
    let mut read = BTreeMap::new();
    let (seccomp, filters) = collect_seccomp(frozen, census)?;
    let mut calls = Calls {
        waits: frozen.waits.clone(),
        deadlines: frozen.deadlines.clone(),
        turns: frozen.queues.turns(),
        blocks: None,
    };
    let mut children: BTreeMap<HostPid, Vec<HostPid>> = BTreeMap::new();
    for process in frozen.processes.iter().filter(|process| !process.is_zombie()) {
        if let Some(parent) = process.parent.filter(|_| process.held_by.is_none()) {
            children.entry(parent).or_default().push(process.pid);
        }
    }
    let living = frozen.processes.iter_mut().filter(|process| !process.is_zombie());
    let mut processes: Vec<&mut Process> = living.collect();
    let mut rest = &mut processes[..];
    while !rest.is_empty() {
        let (some, others) = rest.split_at_mut(without_shared_memory(rest, census));
        rest = others;
        let mut reader = Reader { census, seccomp: &seccomp, calls: &mut calls };
        let living = collect_processes(some, &mut reader, &mut children)?;
        read.extend(some.iter().map(|process| process.pid).zip(living));
    }
    domains::check(&read)?;
    Ok((read, filters))
}

/// Has address spaces as a later census found them, before which no task ran.
pub(super) fn renew_spaces(read: &mut BTreeMap<HostPid, Living>, census: &Census) {
    for living in read.values_mut() {
        let Some(mm) = &mut living.mm else { continue };
        let owner = living.threads[0].tid;
        let space = &census.spaces[&owner];
        mm.exe = census.executables[&owner];
        (mm.vmas, mm.guards) = (space.vmas.clone(), space.guards.clone());
    }
}

/// What keeps threads from making calls. It does not hold for a puppet.
fn collect_seccomp(
    frozen: &Frozen,
    census: &Census,
) -> Result<(BTreeMap<HostPid, Seccomp>, Filters), Error> {
    let (mut seccomp, mut filters) = (BTreeMap::new(), Filters::default());
    for process in &frozen.processes {
        let mut own = Vec::with_capacity(process.threads.len());
        for task in &process.threads {
            let mode = census.status[&task.tid()].seccomp;
            own.push(filters.collect(task, mode).of(Phase::Collect, task.tid())?);
        }
        let tids = process.threads.iter().map(|task| task.tid());
        // The images put a leader that has ended before its threads.
        let leader_lives = process.leader_status.is_none();
        let named = if leader_lives { filters.named(&own) } else { own };
        seccomp.extend(tids.zip(named));
    }
    Ok((seccomp, filters))
}

/// What has threads of a process make calls.
pub(super) fn host(process: &Process, census: &Census) -> Result<Host, Cause> {
    let space = &census.spaces[&census.memory.owner(process.first())];
    let vdso = space.vmas.iter().find(|vma| vma.backing == Backing::Vdso).map(|vma| vma.range);
    let code = |vma: &&Vma| vma.prot.contains(ProtFlags::EXEC) && vma.is_private();
    let code = space.vmas.iter().filter(code).map(|vma| vma.range);
    Ok(Host::prepare(&process.proc, vdso, code)?.quietly(census.watches_signals()))
}

/// How many of the processes, the first of those that are left, can be read at once: of a memory
/// that several have, only one can borrow.
fn without_shared_memory(processes: &[&mut Process], census: &Census) -> usize {
    /// More are not done sooner.
    const MOST: usize = 16;
    let mut owners = BTreeSet::new();
    let owner = |process: &&mut Process| census.memory.owner(process.first());
    processes.iter().take(MOST).take_while(|process| owners.insert(owner(process))).count()
}

fn collect_processes(
    processes: &mut [&mut Process],
    reader: &mut Reader<'_>,
    children: &mut BTreeMap<HostPid, Vec<HostPid>>,
) -> Result<Vec<Living>, Error> {
    const PHASE: Phase = Phase::Collect;
    let mut hosts = Vec::with_capacity(processes.len());
    let prepared = processes.iter().try_for_each(|process| {
        debug!(pid = %process.pid, threads = process.threads.len(), "a process");
        hosts.push(host(process, reader.census).of(PHASE, process.pid)?);
        Ok(())
    });
    let result = prepared.and_then(|()| read_processes(processes, &hosts, reader, children));
    // Whatever came of it, the code goes.
    let left = hosts.into_iter().zip(&*processes);
    let left: Vec<_> = left.map(|(host, process)| host.leave().of(PHASE, process.pid)).collect();
    let told = result?;
    left.into_iter().collect::<Result<(), _>>()?;
    let living = processes.iter().zip(told).map(|(process, told)| {
        look_from_outside(process, reader.census, told).of(PHASE, process.pid)
    });
    living.collect()
}

/// What a process has told, and its timers.
type ToldWithTimers = (Told, PosixTimers);

fn read_processes(
    processes: &mut [&mut Process],
    hosts: &[Host],
    reader: &mut Reader<'_>,
    children: &mut BTreeMap<HostPid, Vec<HostPid>>,
) -> Result<Vec<ToldWithTimers>, Error> {
    const PHASE: Phase = Phase::Collect;
    let timers = processes.iter().map(|process| process.proc.timers().of(PHASE, process.pid));
    let timers = timers.collect::<Result<Vec<_>, _>>()?;
    let readings = processes.iter_mut().zip(hosts).zip(timers).map(|((process, host), timers)| {
        let threads = std::mem::take(&mut process.threads);
        let (pid, clocks) = (process.pid, ThreadClocks::new(threads.len()));
        let children = children.remove(&pid).unwrap_or_default();
        Reading { pid, proc: &process.proc, host, timers, clocks, children, threads }
    });
    let mut readings: Vec<_> = readings.collect();
    let told = reader.read(&mut readings);
    let (clocks, threads): (Vec<_>, Vec<_>) =
        readings.into_iter().map(|reading| (reading.clocks, reading.threads)).unzip();
    for (process, threads) in processes.iter_mut().zip(threads) {
        process.threads = threads;
    }
    let told = match told {
        Ok(told) => told,
        Err((index, cause)) => return Err(cause).of(PHASE, processes[index].pid),
    };
    let asked = processes.iter_mut().zip(hosts.iter().zip(&clocks)).zip(told);
    let settled = asked.map(|((process, with), (mut state, answers, mut threads))| {
        let told = (&mut state, &mut threads[..]);
        let timers = timers::settle(process, reader.census, with, told).of(PHASE, process.pid)?;
        Ok(((state, answers, threads), timers))
    });
    settled.collect()
}

/// Reads what `/proc` has of a process beside what it has told.
fn look_from_outside(
    process: &Process,
    census: &Census,
    ((state, answers, threads), timers): ToldWithTimers,
) -> Result<Living, Cause> {
    let owner = census.memory.owner(process.first());
    let space = &census.spaces[&owner];
    let bytes = process.proc.read(Entry::Named("auxv"))?;
    let (words, _) = bytes.as_chunks::<8>();
    let mm = (owner == process.first()).then(|| Mm {
        layout: process.stat.layout,
        brk: Addr::from_raw(answers.brk),
        auxv: auxv(words),
        exe: census.executables[&owner],
        dumpable: Dumpable::from_raw(answers.dumpable).unwrap_or(Dumpable::No),
        huge_pages: answers.huge_pages,
        outlook: answers.outlook,
        vmas: space.vmas.clone(),
        guards: space.guards.clone(),
    });
    let outside = Outside::collect(&process.proc)?;
    Ok(Living { state, outside, timers, mm, threads, continued: answers.continued })
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
