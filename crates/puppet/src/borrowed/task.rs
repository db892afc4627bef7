//! A borrowed task at work.

use dormouse_kernel::ptrace::{Registers, Rseq, Stopped};
use dormouse_kernel::signal::{SigSet, Signal};
use dormouse_kernel::{Addr, AddrRange, HostPid};

use super::Host;
use super::lend::{Lent, part};
use super::look::{Names, Seen};
use crate::arch::{self, Place, SCRATCH};
use crate::session::{self, HeldOff};
use crate::{Batch, Error, Replies, scratch};

/// A borrowed task.
#[derive(Debug)]
pub struct Borrowed<'a> {
    /// Always there, but for the moments in which the task runs, unless it has died.
    pub(super) task: Option<Stopped>,
    pub(super) place: Place,
    registers: Registers,
    rseq: Option<Rseq>,
    mask: SigSet,
    /// Memory that it has mapped.
    room: Option<AddrRange>,
    /// Where its batches go: in that, or in what another has mapped.
    batches: Option<AddrRange>,
    pub(super) held: HeldOff,
    pub(super) host: &'a Host,
}

impl<'a> Borrowed<'a> {
    /// A task whose context has this number and is written, to use part of
    /// the memory of another or to map its own. Nothing has changed for it yet.
    pub(super) fn new(
        host: &'a Host,
        task: Stopped,
        seen: Seen,
        context: u64,
        lent: Option<Lent>,
    ) -> Self {
        let Seen { registers, rseq, mask, names: Names { tgid, tid, signal }, .. } = seen;
        let place = Place {
            code: host.code,
            context: host.context(context),
            tgid,
            tid,
            signal,
            scratch: lent.map_or(Addr::NULL, |lent| lent.memory),
            quiet: host.quiet,
        };
        let batches = lent.map(|lent| lent.batches);
        let (task, held) = (Some(task), HeldOff::default());
        Self { task, place, registers, rseq, mask, room: None, batches, held, host }
    }

    /// Gives it registers that are safe to run first, the mask next. Whatever
    /// comes of that, it can be given back.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        let idle = arch::walk(&self.place, &self.registers, Addr::NULL, 0);
        let mask = SigSet::ALL.without(self.place.signal);
        let task = self.task.as_mut().ok_or(Error::Died(self.host.process))?;
        task.set_registers(&idle)?;
        Ok(task.set_sigmask(mask)?)
    }

    /// The task itself.
    ///
    /// # Panics
    ///
    /// If it has died in an earlier batch.
    pub fn task(&self) -> &Stopped {
        self.task.as_ref().expect("the task is alive")
    }

    /// Its registers, as they were and will be again.
    #[must_use]
    pub fn registers(&self) -> &Registers {
        &self.registers
    }

    /// Memory that it has mapped for batches: as `mmap(2)` maps memory in this process.
    #[must_use]
    pub fn room(&self) -> Option<AddrRange> {
        self.room
    }

    /// Its registration for restartable sequences.
    #[must_use]
    pub fn rseq(&self) -> Option<&Rseq> {
        self.rseq.as_ref()
    }

    /// Its signal mask, as it was and will be again.
    #[must_use]
    pub fn mask(&self) -> SigSet {
        self.mask
    }

    fn run_to_end(&mut self, registers: &Registers) -> Result<Registers, Error> {
        let Self { task, place, held, host, .. } = self;
        session::run(task, (host.process, place), *registers, held)
    }

    /// One call with nothing in memory, for which `registers` are ready.
    pub(super) fn boot(&mut self, registers: &Registers) -> Result<u64, Error> {
        let after = self.run_to_end(registers)?;
        self.booted(registers, &after)
    }

    /// The result of such a call, from the registers after it.
    pub(super) fn booted(&self, registers: &Registers, after: &Registers) -> Result<u64, Error> {
        let result = arch::boot_result(after);
        let Registers { rax, rdi, rsi, rdx, r10, r8, r9, .. } = *registers;
        match crate::batch::failure(result) {
            None => Ok(result.cast_unsigned()),
            Some(source) => Err(Error::Call {
                task: self.host.process,
                call: crate::error::Syscall(rax.cast_signed()),
                args: crate::error::Args([rdi, rsi, rdx, r10, r8, r9]),
                source,
            }),
        }
    }

    pub(super) fn map_scratch(&mut self) -> Result<u64, Error> {
        self.boot(&self.mapping())
    }

    /// Registers for the call that maps memory for batches.
    pub(super) fn mapping(&self) -> Registers {
        arch::map_scratch(&self.place, &self.registers)
    }

    /// Registers for one call with these arguments.
    pub(super) fn calling(&self, number: i64, args: [u64; 6]) -> Registers {
        arch::boot(&self.place, &self.registers, number, args)
    }

    /// Memory for batches. From here on the registers tell the escape of it.
    pub(super) fn map(&mut self) -> Result<(), Error> {
        let start = self.map_scratch();
        self.mapped(start)
    }

    /// Takes note of where that is, or tries once more where there was no room.
    pub(super) fn mapped(&mut self, start: Result<u64, Error>) -> Result<(), Error> {
        let start = match start {
            Err(refused) => self.map_above_limit(refused)?,
            start => start?,
        };
        self.place.scratch = Addr::from_raw(start);
        self.room = AddrRange::with_len(self.place.scratch, SCRATCH);
        self.batches = part(self.place.scratch, 0, 1);
        Ok(())
    }

    /// Has the task make the calls of a batch.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] names the first call that failed and must not.
    pub fn run(&mut self, batch: Batch) -> Result<Replies, Error> {
        let (tid, place) = (self.task().tid(), self.batches());
        scratch::put(tid, place, &batch)?;
        let after = self.run_to_end(&self.at_work(&batch))?;
        let left = arch::left(&after);
        scratch::take(tid, place.start(), &batch, left)
    }

    /// What has it run at the same time as others, from these registers on.
    pub(super) fn job(&mut self, registers: Registers) -> session::Job<'_> {
        let Self { host, task, place, held, .. } = self;
        let tid = task.as_ref().map_or(host.process, Stopped::tid);
        session::Job { tid, task, place, registers, held }
    }

    /// Where its batches go.
    pub(super) fn batches(&self) -> AddrRange {
        self.batches.expect("mapped when it was borrowed")
    }

    /// Registers that run a batch which is in its place.
    pub(super) fn at_work(&self, batch: &Batch) -> Registers {
        let start = self.batches().start();
        arch::walk(&self.place, &self.registers, start, batch.len() as u64)
    }

    /// Gives it back stopped, as it was, unless it has died.
    pub(super) fn give_back(mut self) -> (Option<Stopped>, Result<(), Error>) {
        let unmapped = match self.unmapping() {
            None => Ok(()),
            Some(registers) => self.boot(&registers).map(drop),
        };
        self.put_back(unmapped)
    }

    /// Registers for the call that unmaps what it has mapped, if it has.
    pub(super) fn unmapping(&mut self) -> Option<Registers> {
        let room = self.room.take()?;
        // Even if the tracer dies here, this call is made once.
        self.place.scratch = Addr::NULL;
        let args = [room.start().as_raw(), room.len(), 0, 0, 0, 0];
        Some(self.calling(libc::SYS_munmap, args))
    }

    /// Gives it back, with nothing mapped any more.
    pub(super) fn put_back(
        mut self,
        unmapped: Result<(), Error>,
    ) -> (Option<Stopped>, Result<(), Error>) {
        let Some(mut task) = self.task.take() else {
            return (None, Err(Error::Died(self.host.process)));
        };
        // Whatever became of that, it goes back to where it was.
        let mask = task.set_sigmask(self.mask);
        let registers = task.set_registers(&self.registers);
        let HeldOff { stop, trap } = self.held;
        let held = [(stop, Signal::STOP), (trap, self.place.signal)];
        held.into_iter().filter(|(came, _)| *came).for_each(|(_, signal)| send(task.tid(), signal));
        (Some(task), unmapped.and(mask.and(registers).map_err(Error::from)))
    }
}

/// Sends a signal that came while the task was borrowed.
fn send(tid: HostPid, signal: Signal) {
    let known = rustix::process::Signal::from_named_raw(signal.as_raw());
    if let Some((pid, signal)) = rustix::process::Pid::from_raw(tid.as_raw()).zip(known) {
        // The task is in a stop of ours, so the number is still its own.
        let _ = rustix::process::kill_process(pid, signal);
    }
}
