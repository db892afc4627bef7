//! Runs the code in a task, up to its end.

use dormouse_kernel::ptrace::{Event, Outcome, Registers, Running, Stop, Stopped};
use dormouse_kernel::signal::Signal;
use dormouse_kernel::{Addr, HostPid};

use crate::Error;
use crate::arch::{self, Place};

/// What was held off while the task was a puppet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeldOff {
    /// SIGSTOP, which cannot be blocked.
    pub(crate) stop: bool,
    /// The signal by which it reports, from somebody else.
    pub(crate) trap: bool,
}

/// A task that is to run at the same time as others.
pub(crate) struct Job<'a> {
    pub(crate) tid: HostPid,
    /// Taken out while it runs.
    pub(crate) task: &'a mut Option<Stopped>,
    pub(crate) place: &'a Place,
    pub(crate) registers: Registers,
    pub(crate) held: &'a mut HeldOff,
}

/// A task that did not do as it was told.
pub(crate) struct Failure {
    /// Itself, unless it has died.
    pub(crate) task: Option<Stopped>,
    pub(crate) error: Error,
}

impl<E: Into<Error>> From<E> for Failure {
    /// Of a task that nothing can be done about any more.
    fn from(error: E) -> Self {
        Self { task: None, error: error.into() }
    }
}

/// Sets tasks going, all of them before any is waited for; gives the registers of each when it has
/// stopped again, as all that ran have in any case, wherever that is.
pub(crate) fn run_at_once(jobs: Vec<Job<'_>>) -> Result<Vec<Registers>, Error> {
    run_each(jobs).into_iter().collect()
}

/// The same, and what became of each whatever became of the others.
pub(crate) fn run_each(mut jobs: Vec<Job<'_>>) -> Vec<Result<Registers, Error>> {
    let set_going = |job: &mut Job<'_>| {
        let task = job.task.take().ok_or(Failure::from(Error::Died(job.tid)));
        let running = task.and_then(|task| start(task, job.place, &job.registers));
        running.map_err(|failure| job.give_up(failure))
    };
    let running: Vec<_> = jobs.iter_mut().map(set_going).collect();
    let ran = jobs.iter_mut().zip(running).map(|(job, running)| {
        let (task, after) = match finish(running?, job.place, job.held) {
            Ok(ran) => ran,
            Err(failure) => return Err(job.give_up(failure)),
        };
        *job.task = Some(task);
        Ok(after)
    });
    ran.collect()
}

impl Job<'_> {
    /// Puts the task back, if it is there.
    fn give_up(&mut self, Failure { task, error }: Failure) -> Error {
        *self.task = task;
        error
    }
}

/// Sets the task going at `registers`, and gives those with which it signals itself in the end.
/// It is put back wherever it stopped.
pub(crate) fn run(
    task: &mut Option<Stopped>,
    (tid, place): (HostPid, &Place),
    registers: Registers,
    held: &mut HeldOff,
) -> Result<Registers, Error> {
    let jobs = vec![Job { tid, task, place, registers, held }];
    Ok(run_at_once(jobs)?.pop().expect("one has run"))
}

/// Sets the task going at `registers`.
pub(crate) fn start(
    mut task: Stopped,
    place: &Place,
    registers: &Registers,
) -> Result<Running, Failure> {
    match task.set_registers(registers) {
        Ok(()) => Ok(resume(task, place)?),
        Err(error) => Err(Failure { task: Some(task), error: error.into() }),
    }
}

fn resume(task: Stopped, place: &Place) -> Result<Running, Error> {
    Ok(if place.quiet { task.resume_to_syscall(None)? } else { task.resume(None)? })
}

/// Waits for the signal to itself of a task that was set going.
pub(crate) fn finish(
    mut running: Running,
    place: &Place,
    held: &mut HeldOff,
) -> Result<(Stopped, Registers), Failure> {
    let tid = running.tid();
    let mut is_done = false;
    loop {
        let mut task = match running.wait()? {
            Outcome::Exited(_) => return Err(Error::Died(tid).into()),
            Outcome::Stopped(task) => task,
        };
        match look(&mut task, place, held, &mut is_done) {
            Ok(Some(registers)) => return Ok((task, registers)),
            Ok(None) => {}
            Err(error) => return Err(Failure { task: Some(task), error }),
        }
        // Where it is when it is done, a call that was interrupted would not be restarted.
        running = if is_done { task.resume(None)? } else { resume(task, place)? };
    }
}

/// Looks why a task has stopped: its registers, if it is where it is to be. If it `is_done`
/// but not there yet, it is told to stop again.
fn look(
    task: &mut Stopped,
    place: &Place,
    held: &mut HeldOff,
    is_done: &mut bool,
) -> Result<Option<Registers>, Error> {
    match task.stop() {
        Stop::Signal(signal) if signal == place.signal => {
            let registers = task.registers()?;
            if registers.rip == place.code.as_raw() + arch::done() {
                return Ok(Some(registers));
            }
            // Anybody may send it. That of the task itself comes first
            // where it is due, being its own and not the process's.
            held.trap = true;
        }
        // Before and behind every call.
        Stop::Syscall => {
            let registers = task.registers()?;
            *is_done = registers.rip == place.code.as_raw() + arch::done();
            if *is_done {
                let skipped = Registers { orig_rax: Registers::NO_SYSCALL, ..registers };
                task.set_registers(&skipped)?;
            }
        }
        Stop::Signal(Signal::STOP) => held.stop = true,
        Stop::Event(Event::Stop) | Stop::Group(_) if *is_done => {
            return Ok(Some(task.registers()?));
        }
        Stop::Event(Event::Stop) | Stop::Group(_) => {}
        stop => {
            let at = Addr::from_raw(task.registers()?.rip);
            return Err(Error::Astray { task: task.tid(), stop, at });
        }
    }
    if *is_done {
        task.interrupt()?;
    }
    Ok(None)
}
