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
    for process in frozen.processes.iter_mut().filter(|process| !process.is_zombie()) {
        let pid = process.pid;
        debug!(%pid, threads = process.threads.len(), "a process");
        let children = children.remove(&pid).unwrap_or_default();
        let living = collect_process(process, census, &seccomp, (&children, &mut calls));
        read.insert(pid, living.of(Phase::Collect, pid)?);
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

fn collect_process(
    process: &mut Process,
    census: &Census,
    seccomp: &BTreeMap<HostPid, Seccomp>,
    (children, calls): (&[HostPid], &mut Calls),
) -> Result<Living, Cause> {
    let owner = census.memory.owner(process.first());
    let space = &census.spaces[&owner];
    let host = host(process, census)?;
    let mut clocks = ThreadClocks::new(process.threads.len());
    let with = (&host, &mut clocks, seccomp);
    let result = threads::read(process, census, with, (children, calls)).and_then(
        |(mut state, answers, mut threads)| {
            let timers =
                timers::settle(process, census, (&host, &clocks), (&mut state, &mut threads))?;
            Ok((state, answers, threads, timers))
        },
    );
    // Whatever came of it, the code goes.
    let left = host.leave();
    let (state, answers, threads, timers) = result?;
    left?;
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
