//! What has to be known of tasks before they can be borrowed.

use dormouse_kernel::proc::Status;
use dormouse_kernel::ptrace::{Registers, Rseq, Stop, Stopped};
use dormouse_kernel::signal::{SigSet, Signal};

use super::Host;
use crate::arch::Context;
use crate::resumption::interruption;
use crate::{Error, rseq};

/// What a task was when it was looked at.
pub(super) struct Seen {
    /// With which it goes on: at the beginning of a critical section that it
    /// was stopped in.
    pub(super) registers: Registers,
    pub(super) rseq: Option<Rseq>,
    pub(super) mask: SigSet,
    pub(super) names: Names,
    /// By job control.
    is_held: bool,
}

/// How a task calls itself, and by which signal it reports.
#[derive(Clone, Copy)]
pub(super) struct Names {
    pub(super) tgid: i32,
    pub(super) tid: i32,
    pub(super) signal: Signal,
}

impl Names {
    fn of(task: &Stopped, status: &Status) -> Option<Self> {
        let raw = |pid: Option<dormouse_kernel::NsPid>| pid.map_or(0, |pid| pid.as_raw());
        let TrapSignal(signal) = TrapSignal::choose(task.stop(), status)?;
        Some(Self { tgid: raw(status.innermost_tgid()), tid: raw(status.innermost_pid()), signal })
    }
}

/// The signal by which a borrowed task reports. It must do nothing to a
/// program that is not traced any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TrapSignal(Signal);

impl TrapSignal {
    /// One that the task ignores, and that does not wait for it at present.
    /// If it handles all that could be (as Go does), one whose handler must
    /// expect to be called at any time. `None` if all of these wait for it.
    fn choose(stop: Stop, status: &Status) -> Option<Self> {
        let pending = status.pending.union(status.shared_pending);
        let free = |signal: &Signal| !pending.contains(*signal);
        let ignored = |signal: &Signal| !status.caught.contains(*signal);
        let candidates = [Signal::URG, Signal::WINCH, Signal::CHLD];
        let quiet = candidates.into_iter().find(|signal| free(signal) && ignored(signal));
        // Those take others back that wait (`prepare_signal`, `kernel/signal.c`).
        let stops = [Signal::STOP, Signal::TSTP, Signal::TTIN, Signal::TTOU];
        let of_job_control = |signal: &Signal| *signal == Signal::CONT || stops.contains(signal);
        let asked_to =
            || status.ignored.iter().find(|signal| free(signal) && !of_job_control(signal));
        let may_continue = |signal: &Signal| {
            let takes_back = stops.iter().any(|stop| pending.contains(*stop));
            free(signal) && ignored(signal) && !stop.is_held() && !takes_back
        };
        quiet
            .or_else(asked_to)
            .or_else(|| candidates.into_iter().find(free))
            .or_else(|| Some(Signal::CONT).filter(may_continue))
            .map(Self)
    }
}

impl Host {
    /// Looks at tasks, and writes what they were for the contexts from this
    /// number on. Nothing changes for them.
    pub(super) fn look<'t>(
        &self,
        tasks: impl IntoIterator<Item = (&'t Stopped, &'t Status)>,
        first: u64,
    ) -> Result<Vec<Seen>, Error> {
        let mut seen = Vec::new();
        for (task, status) in tasks {
            let names = Names::of(task, status).ok_or(Error::NoSignal(task.tid()))?;
            let (registers, rseq, mask) = (task.registers()?, task.rseq()?, task.sigmask()?);
            seen.push(Seen { registers, rseq, mask, names, is_held: task.stop().is_held() });
        }
        let areas: Vec<_> = seen.iter().filter_map(|seen| seen.rseq).collect();
        let mut sections = rseq::sections(&self.mem, &areas).into_iter();
        for seen in seen.iter_mut().filter(|seen| seen.rseq.is_some()) {
            let section = sections.next().flatten();
            let at = seen.registers.rip;
            if let Some(abort) = section.and_then(|at_| rseq::abort(&self.mem, at_, at)) {
                seen.registers.rip = abort;
            }
        }
        let contexts = seen.iter().map(|seen| {
            // If this process dies, no signal can be told from one that came
            // before the stop, so calls are made again in any case.
            let on_death = match interruption(&seen.registers, seen.is_held) {
                Some(interruption) => interruption.go_on(&seen.registers),
                None => seen.registers,
            };
            Context::new(seen.mask, &on_death).to_bytes()
        });
        let contexts: Vec<_> = contexts.collect();
        self.mem.write_exact(self.context(first), contexts.as_flattened())?;
        Ok(seen)
    }
}
