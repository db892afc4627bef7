//! Waits for requests of io_uring that complete by themselves.
//!
//! Those that wait for something to happen are saved, also when it has happened since
//! the task that made them ran last. All others, as those on files of disks, complete
//! soon, by the kernel's threads or devices; but it is that task which puts
//! most completions into the ring, as soon as it runs for a moment.

use std::time::{Duration, Instant};

use dormouse_kernel::io_uring::ENTER_GETEVENTS;
use dormouse_kernel::{FdNum, HostPid};
use dormouse_puppet::Batch;
use dormouse_resources::file::{Completing, FileId, Probe, RingSurvey};
use dormouse_resources::task::Refusal;

use super::collect;
use super::enumerate::Census;
use super::frozen::{Frozen, Process};
use crate::cause::{At, Cause};
use crate::{Error, Phase};

const PHASE: Phase = Phase::Enumerate;

/// Waits until no request of any ring is about to complete, or for so long.
/// What is seen last is kept in `survey`.
pub(super) fn settle(
    frozen: &mut Frozen,
    census: &Census,
    survey: &mut RingSurvey,
    (timeout, is_abandoned): (Duration, &dyn Fn() -> bool),
) -> Result<(), Error> {
    const PAUSE: Duration = Duration::from_millis(1);
    let deadline = Instant::now() + timeout;
    for (id, probe) in rings(census) {
        loop {
            let seen = look(survey, probe)?;
            if seen.count == 0 || Instant::now() >= deadline {
                break;
            }
            if is_abandoned() {
                return Err(Cause::Abandoned).at(PHASE);
            }
            for &task in &seen.tasks {
                let ring = if seen.asked { number(census, task, id) } else { None };
                nudge(frozen, census, task, ring)?;
            }
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// A ring in which something is about to complete now that no task runs, by a descriptor.
pub(super) fn at_work(
    census: &Census,
    survey: &mut RingSurvey,
) -> Result<Option<(HostPid, Option<FdNum>)>, Error> {
    let mut at_work = None;
    for (_, probe) in rings(census) {
        if look(survey, probe)?.count > 0 {
            at_work = Some(probe.holder.place());
        }
    }
    Ok(at_work)
}

/// A ring in which something has completed since then, by a descriptor.
pub(super) fn gone_on(
    census: &Census,
    survey: &mut RingSurvey,
) -> Result<Option<(HostPid, Option<FdNum>)>, Error> {
    let mut gone_on = None;
    for (_, probe) in rings(census) {
        let (task, fd) = probe.holder.place();
        if survey.has_gone_on(probe).of_fd(PHASE, task, fd)? {
            gone_on = Some((task, fd));
        }
    }
    Ok(gone_on)
}

/// Why a ring that never stands still cannot be saved.
pub(super) fn restless((task, fd): (HostPid, Option<FdNum>)) -> Result<(), Error> {
    Err(Cause::Unsupported(Refusal::RestlessRing)).of_fd(PHASE, task, fd)
}

fn rings(census: &Census) -> impl Iterator<Item = (FileId, &Probe)> {
    let all = census.probes.iter().map(|(&id, probe)| (id, probe));
    all.filter(|(_, probe)| RingSurvey::concerns(probe))
}

fn look(survey: &mut RingSurvey, probe: &Probe) -> Result<Completing, Error> {
    let (task, fd) = probe.holder.place();
    survey.look(probe).of_fd(PHASE, task, fd)
}

/// What a task knows a file by.
fn number(census: &Census, task: HostPid, file: FileId) -> Option<u32> {
    census.status.get(&task)?;
    let table = census.tables.get(census.files.number(task))?;
    let descriptor = table.entries.iter().find(|descriptor| descriptor.file == file)?;
    Some(descriptor.fd.as_raw())
}

/// Has a task of the tree run for a moment, and ask for completions of a ring.
fn nudge(
    frozen: &mut Frozen,
    census: &Census,
    tid: HostPid,
    ring: Option<u32>,
) -> Result<(), Error> {
    let has = |process: &&mut Process| process.threads.iter().any(|task| task.tid() == tid);
    let Some(process) = frozen.processes.iter_mut().find(has) else { return Ok(()) };
    run(process, census, tid, ring).of(PHASE, tid)
}

fn run(
    process: &mut Process,
    census: &Census,
    tid: HostPid,
    ring: Option<u32>,
) -> Result<(), Cause> {
    let host = collect::host(process, census)?;
    let place = process.threads.iter().position(|task| task.tid() == tid);
    let place = place.expect("it is one of the process");
    let task = process.threads.remove(place);
    let (task, result) = host.borrow(task, &census.status[&tid], |puppet| {
        let mut batch = Batch::new();
        batch.call(libc::SYS_getpid, []);
        if let Some(ring) = ring {
            let flags = ENTER_GETEVENTS.into();
            batch.may_fail(libc::SYS_io_uring_enter, [ring.into(), 0.into(), 0.into(), flags]);
        }
        puppet.run(batch).map(drop)
    });
    process.threads.splice(place..place, task);
    // Whatever came of it, the code goes.
    let left = host.leave();
    Ok(result.and(left)?)
}
