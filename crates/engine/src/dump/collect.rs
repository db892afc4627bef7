//! Reads every task, each by one batch that it runs itself.

use std::collections::BTreeMap;

use dormouse_kernel::proc::{Entry, Status};
use dormouse_kernel::signal::{SigSet, Signal};
use dormouse_kernel::{Addr, HostPid};
use dormouse_puppet::{Batch, Host, Interruption, Slot, interruption};
use dormouse_resources::memory::{Backing, Dumpable, Mm};
use dormouse_resources::task::{Cpu, ProcessState, TaskProbe, ThreadState};

use super::enumerate::Census;
use super::freeze::{Frozen, Process};
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
    /// Everything else.
    pub(crate) state: ThreadState,
}

/// A process, read.
#[derive(Debug)]
pub(crate) struct Living {
    /// What it has as a whole.
    pub(crate) state: ProcessState,
    /// Its address space.
    pub(crate) mm: Mm,
    /// Its threads, the leader first.
    pub(crate) threads: Vec<Thread>,
}

/// Reads all processes; zombies are left out.
pub(crate) fn collect(
    frozen: &mut Frozen,
    census: &Census,
) -> Result<BTreeMap<HostPid, Living>, Error> {
    let mut read = BTreeMap::new();
    for process in frozen.processes.iter_mut().filter(|process| !process.is_zombie()) {
        let pid = process.pid;
        read.insert(pid, collect_process(process, census).of(Phase::Collect, pid)?);
    }
    Ok(read)
}

/// What a process is asked about its address space.
struct MmAsked {
    brk: Slot,
    dumpable: Slot,
    thp: Slot,
}

fn collect_process(process: &mut Process, census: &Census) -> Result<Living, Cause> {
    let pid = process.pid;
    let space = &census.spaces[&pid];
    let vdso = space.vmas.iter().find(|vma| vma.backing == Backing::Vdso).map(|vma| vma.range);
    let host = Host::prepare(&process.proc, vdso)?;
    let result = collect_threads(process, census, &host);
    // Whatever came of it, the code goes.
    host.leave()?;
    let (state, answers, threads) = result?;
    let bytes = process.proc.read(Entry::Named("auxv"))?;
    let (words, _) = bytes.as_chunks::<8>();
    let mm = Mm {
        layout: process.stat.layout,
        brk: Addr::from_raw(answers.brk),
        auxv: auxv(words),
        exe: census.executables[&pid],
        dumpable: Dumpable::from_raw(answers.dumpable).unwrap_or(Dumpable::No),
        thp_disabled: answers.thp_disabled,
        vmas: space.vmas.clone(),
        guards: space.guards.clone(),
    };
    Ok(Living { state, mm, threads })
}

struct MmAnswers {
    brk: u64,
    dumpable: i32,
    thp_disabled: bool,
}

fn collect_threads(
    process: &mut Process,
    census: &Census,
    host: &Host,
) -> Result<(ProcessState, MmAnswers, Vec<Thread>), Cause> {
    let mut of_process = None;
    let mut threads = Vec::new();
    let tasks = std::mem::take(&mut process.threads);
    let mut failure = None;
    for task in tasks {
        if failure.is_some() {
            process.threads.push(task);
            continue;
        }
        let tid = task.tid();
        let status = &census.status[&tid];
        let dir = process.proc.task(tid)?;
        let (task, result) = host.borrow(task, status, |puppet| {
            let mut batch = Batch::new();
            let asked = ThreadState::ask(&mut batch);
            let leader = (tid == process.pid).then(|| {
                let mm = MmAsked {
                    brk: batch.call(libc::SYS_brk, [0.into()]),
                    dumpable: batch.call(libc::SYS_prctl, [libc::PR_GET_DUMPABLE.into()]),
                    thp: batch.call(
                        libc::SYS_prctl,
                        [libc::PR_GET_THP_DISABLE.into(), 0.into(), 0.into(), 0.into(), 0.into()],
                    ),
                };
                (ProcessState::ask(&mut batch), mm)
            });
            let replies = puppet.run(batch)?;
            let probe = TaskProbe {
                tid,
                process: process.pid,
                proc: &dir,
                status,
                mask: puppet.mask(),
                stopped: puppet.task(),
            };
            let state = ThreadState::collect(&probe, &replies, asked)?;
            let registers = *puppet.registers();
            let xstate = puppet.task().xstate()?;
            let leader = match leader {
                None => None,
                Some((asked, mm)) => Some((
                    ProcessState::collect(
                        &TaskProbe { proc: &process.proc, ..probe },
                        &replies,
                        asked,
                    )?,
                    MmAnswers {
                        brk: replies.value(&mm.brk),
                        dumpable: replies.value(&mm.dumpable) as i32,
                        thp_disabled: replies.value(&mm.thp) != 0,
                    },
                )),
            };
            Ok::<_, Cause>((state, registers, xstate, leader))
        })?;
        process.threads.push(task);
        match result {
            Err(error) => failure = Some(error),
            Ok((state, registers, xstate, leader)) => {
                let interrupted = interruption(&registers, awaits_signal(status));
                let registers = match interrupted {
                    Some(_) => Interruption::call_again(&registers),
                    None => registers,
                };
                of_process = of_process.or(leader);
                let cpu = Cpu { registers, xstate };
                threads.push(Thread { tid, cpu, interrupted, state });
            }
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    let (state, mm) = of_process.expect("the leader is among the threads");
    Ok((state, mm, threads))
}

/// Signals that do nothing to a process which does not handle them.
const QUIET: [Signal; 4] = [Signal::CHLD, Signal::URG, Signal::WINCH, Signal::CONT];

/// Whether a signal waits that will be delivered as soon as the task runs,
/// and be noticed.
fn awaits_signal(status: &Status) -> bool {
    let waiting = status.pending.union(status.shared_pending);
    let blocked_or_ignored = status.blocked.union(status.ignored);
    let quiet = QUIET.iter().fold(SigSet::EMPTY, |set, &signal| set.with(signal));
    waiting.iter().any(|signal| {
        !blocked_or_ignored.contains(signal)
            && (status.caught.contains(signal) || !quiet.contains(signal))
    })
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
