//! A task of a live program, borrowed for a while.
//!
//! The program must come to no harm even if the tracer is killed at any
//! instant, since the kernel then sets every task going with the registers it
//! has. So whatever registers a borrowed task is given lead back to where it
//! was:
//!
//! 1. Code and [`Context`] are written where nothing is read or run: into the
//!    padding behind the ELF image of the process's own vDSO, or if it has
//!    unmapped that, behind the code of a program or library. Nothing has
//!    changed for the task so far.
//! 2. All its registers change at once, to the entry of the code; its signal
//!    mask only then, for the code's escape puts that back.
//! 3. It runs, and signals itself at the end. The signal is harmless to the
//!    program, and a stop to the tracer. If even that would be noticed
//!    ([`Host::quietly`]), it is stopped at the call instead, which is not made.
//! 4. It is given back the other way round: mask, registers, code.
//!
//! The first task of a process that is borrowed maps memory for batches, and unmaps
//! it when it is given back. Meanwhile it can lend that to others ([`Borrowed::lend`]),
//! each of which has a context of its own, as many as fit behind the code. If the
//! tracer dies, whoever of them is last to be done unmaps the memory.

use dormouse_kernel::proc::{ProcDir, Status};
use dormouse_kernel::ptrace::{Registers, Stopped};
use dormouse_kernel::remote_memory::Mem;
use dormouse_kernel::signal::{SigSet, Signal};
use dormouse_kernel::{Addr, AddrRange, HostPid};
use tracing::trace;

use crate::arch::{self, BATCHES, CODE, Context, Place, SCRATCH};
use crate::resumption::interruption;
use crate::session::{self, HeldOff};
use crate::{Batch, Error, Replies, rseq, scratch};

/// A process whose tasks can be borrowed: the code is in its place.
#[derive(Debug)]
pub struct Host {
    process: HostPid,
    mem: Mem,
    /// Where the code is; contexts follow it.
    code: Addr,
    /// How many of them fit.
    contexts: u64,
    /// What was there before.
    original: Vec<u8>,
    /// Its tasks are not to signal themselves.
    quiet: bool,
}

/// More tasks than this at once are not done sooner.
const MOST_CONTEXTS: usize = 6;

/// The signal by which a borrowed task reports. It must do nothing to a
/// program that is not traced any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrapSignal(Signal);

impl TrapSignal {
    /// One that the task ignores, and that does not wait for it at present.
    /// If it handles all that could be (as Go does), one whose handler must
    /// expect to be called at any time.
    #[must_use]
    pub fn choose(status: &Status) -> Self {
        let pending = status.pending.union(status.shared_pending);
        let free = |signal: &Signal| !pending.contains(*signal);
        let ignored = |signal: &Signal| !status.caught.contains(*signal);
        let candidates = [Signal::URG, Signal::WINCH, Signal::CHLD];
        let quiet = candidates.into_iter().find(|signal| free(signal) && ignored(signal));
        Self(quiet.or(candidates.into_iter().find(free)).unwrap_or(Signal::URG))
    }
}

/// The place behind the ELF image of a vDSO, and how many bytes are free there.
fn behind_image(mem: &Mem, vdso: AddrRange) -> Result<Option<(Addr, usize)>, Error> {
    let mut header = [0; 64];
    mem.read_exact(vdso.start(), &mut header)?;
    let used = image_size(&header).next_multiple_of(16);
    let free = vdso.len().saturating_sub(used) as usize;
    Ok(vdso.start().checked_add(used).map(|start| (start, free)))
}

/// The last `needed` bytes of a mapping, if they are the zeros that fill the
/// last page of a program's code, or what a tracer that was killed left there.
fn at_the_end(mem: &Mem, mapping: AddrRange, needed: u64) -> Option<Addr> {
    let offset = mapping.len().checked_sub(needed.next_multiple_of(16))?;
    let start = mapping.start().checked_add(offset)?;
    let mut bytes = vec![0xff; needed as usize];
    // What cannot be read, such as what is behind the end of a file, is no place.
    mem.read_exact(start, &mut bytes).ok()?;
    let free = bytes.starts_with(CODE.bytes()) || bytes.iter().all(|&byte| byte == 0);
    free.then_some(start)
}

impl Host {
    /// Puts the code into the padding of the vDSO of the process; if there is
    /// no vDSO, into that of another of the mappings given, which can be run
    /// and are its own.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] if there is none or it is too small.
    pub fn prepare(
        proc: &ProcDir,
        vdso: Option<AddrRange>,
        others: impl IntoIterator<Item = AddrRange>,
    ) -> Result<Self, Error> {
        let process = proc.pid();
        let size = |contexts| CODE.bytes().len().next_multiple_of(16) + contexts * Context::SIZE;
        let mem = Mem::open(proc)?;
        let vdso = match vdso {
            Some(vdso) => behind_image(&mem, vdso)?,
            None => None,
        };
        let most = |&(_, free): &(Addr, usize)| {
            (1..=MOST_CONTEXTS).rev().find(|&contexts| size(contexts) <= free)
        };
        let place = match vdso.and_then(|place| most(&place).map(|contexts| (place.0, contexts))) {
            Some(place) => Some(place),
            None => {
                let needed = size(1) as u64;
                others.into_iter().find_map(|one| at_the_end(&mem, one, needed)).map(|at| (at, 1))
            }
        };
        let Some((code, contexts)) = place else {
            return Err(Error::NoRoom { task: process, needed: size(1) });
        };
        let mut original = vec![0; size(contexts)];
        mem.read_exact(code, &mut original)?;
        mem.write_exact(code, CODE.bytes())?;
        Ok(Self { process, mem, code, contexts: contexts as u64, original, quiet: false })
    }

    /// Has its tasks stopped in another way than by their signal, which takes
    /// two stops a call: whoever watches a signalfd of the process is told of
    /// any signal at all (`signalfd_notify`, `kernel/signal.c`).
    #[must_use]
    pub fn quietly(self, quiet: bool) -> Self {
        Self { quiet, ..self }
    }

    /// Where a context is.
    fn context(&self, index: u64) -> Addr {
        let after = CODE.bytes().len().next_multiple_of(16) + index as usize * Context::SIZE;
        self.code.checked_add(after as u64).expect("within the vDSO")
    }

    /// Takes the code away again.
    ///
    /// # Errors
    ///
    /// The process has died.
    pub fn leave(self) -> Result<(), Error> {
        Ok(self.mem.write_exact(self.code, &self.original)?)
    }

    /// Borrows a task for as long as `work` runs. The task comes back
    /// stopped, as it was, whatever became of the work.
    ///
    /// # Errors
    ///
    /// The task has died, or could not be given back.
    pub fn borrow<R, E: From<Error>>(
        &self,
        task: Stopped,
        status: &Status,
        work: impl FnOnce(&mut Borrowed<'_>) -> Result<R, E>,
    ) -> Result<(Stopped, Result<R, E>), Error> {
        let mut borrowed = self.take(task, status, 0, None)?;
        let result = match borrowed.map() {
            Ok(()) => work(&mut borrowed),
            Err(error) => Err(error.into()),
        };
        Ok((borrowed.give_back()?, result))
    }

    /// Borrows a task, with the context of this number, to use part of the
    /// memory of another or to map its own.
    fn take(
        &self,
        mut task: Stopped,
        status: &Status,
        index: u64,
        lent: Option<Lent>,
    ) -> Result<Borrowed<'_>, Error> {
        let mut registers = task.registers()?;
        let rseq = task.rseq().ok().flatten();
        if let Some(abort) = rseq.and_then(|rseq| rseq::abort(&self.mem, &rseq, registers.rip)) {
            registers.rip = abort;
        }
        let mask = task.sigmask()?;
        // If this process dies, no signal can be told from one that came
        // before the stop, so calls are made again in any case.
        let on_death = match interruption(&registers, false) {
            Some(interruption) => interruption.go_on(&registers),
            None => registers,
        };
        self.mem.write_exact(self.context(index), &Context::new(mask, &on_death).to_bytes())?;
        let TrapSignal(signal) = TrapSignal::choose(status);
        let raw = |pid: Option<dormouse_kernel::NsPid>| pid.map_or(0, |pid| pid.as_raw());
        let place = Place {
            code: self.code,
            context: self.context(index),
            tgid: raw(status.innermost_tgid()),
            tid: raw(status.innermost_pid()),
            signal,
            scratch: lent.map_or(Addr::NULL, |lent| lent.memory),
            quiet: self.quiet,
        };
        // Registers that are safe to run first, the mask next.
        let idle = arch::walk(&place, &registers, Addr::NULL, 0);
        task.set_registers(&idle)?;
        task.set_sigmask(SigSet::ALL.without(signal))?;
        Ok(Borrowed {
            task: Some(task),
            place,
            registers,
            mask,
            room: None,
            batches: lent.map(|lent| lent.batches),
            held: HeldOff::default(),
            host: self,
        })
    }
}

/// Where the ELF image that begins with `header` ends: with its section
/// headers.
fn image_size(header: &[u8; 64]) -> u64 {
    let shoff = u64::from_ne_bytes(std::array::from_fn(|i| header[40 + i]));
    let size = u16::from_ne_bytes([header[58], header[59]]);
    let count = u16::from_ne_bytes([header[60], header[61]]);
    shoff.saturating_add(u64::from(size) * u64::from(count))
}

/// A part of the memory that another task has mapped.
#[derive(Clone, Copy)]
struct Lent {
    memory: Addr,
    batches: AddrRange,
}

/// A borrowed task.
#[derive(Debug)]
pub struct Borrowed<'a> {
    /// Always there, but for the moments in which the task runs.
    task: Option<Stopped>,
    place: Place,
    registers: Registers,
    mask: SigSet,
    /// Memory that it has mapped.
    room: Option<AddrRange>,
    /// Where its batches go: in that, or in what another has mapped.
    batches: Option<AddrRange>,
    held: HeldOff,
    host: &'a Host,
}

impl Borrowed<'_> {
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

    /// Its signal mask, as it was and will be again.
    #[must_use]
    pub fn mask(&self) -> SigSet {
        self.mask
    }

    fn run_to_end(&mut self, registers: &Registers) -> Result<Registers, Error> {
        let task = self.task.take().ok_or(Error::Died(self.host.process))?;
        let (task, after) = session::run(task, &self.place, registers, &mut self.held)?;
        self.task = Some(task);
        Ok(after)
    }

    /// One call with nothing in memory, for which `registers` are ready.
    fn boot(&mut self, registers: &Registers) -> Result<u64, Error> {
        let result = arch::boot_result(&self.run_to_end(registers)?);
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

    /// Memory for batches. From here on the registers tell the escape of it.
    fn map(&mut self) -> Result<(), Error> {
        let start = self.boot(&arch::map_scratch(&self.place, &self.registers))?;
        self.place.scratch = Addr::from_raw(start);
        self.room = AddrRange::with_len(self.place.scratch, SCRATCH);
        self.batches = part(self.place.scratch, 0, 1);
        Ok(())
    }

    /// How many tasks can be lent to at once.
    #[must_use]
    pub fn lends_to(&self) -> usize {
        self.host.contexts as usize - 1
    }

    /// Borrows other tasks of the process, no more than [`Self::lends_to`], for as
    /// long as `work` runs, which can have all of them make calls at once
    /// ([`run_all`]). They come back stopped, as they were, whatever became of the
    /// work. Their batches must be small: they share the memory of this one.
    ///
    /// # Errors
    ///
    /// One of them has died, or could not be given back.
    ///
    /// # Panics
    ///
    /// If there are too many.
    pub fn lend<'s, R, E: From<Error>>(
        &mut self,
        tasks: impl IntoIterator<Item = (Stopped, &'s Status)>,
        work: impl FnOnce(&mut [Self]) -> Result<R, E>,
    ) -> Result<(Vec<Stopped>, Result<R, E>), Error> {
        let tasks: Vec<_> = tasks.into_iter().collect();
        assert!(tasks.len() <= self.lends_to(), "there is a context for each");
        let memory = self.place.scratch;
        let others = tasks.len() as u64;
        // Should this process die between this and the next, it is left mapped.
        self.host.mem.write_exact(memory, &others.to_ne_bytes())?;
        let mut lent = Vec::with_capacity(tasks.len());
        let mut failure = None;
        for ((task, status), index) in tasks.into_iter().zip(0..) {
            let batches = part(memory, index, others).expect("the memory is large enough");
            match self.host.take(task, status, index + 1, Some(Lent { memory, batches })) {
                Ok(one) => lent.push(one),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let result = failure.map_or_else(|| Ok(work(&mut lent)), Err);
        // Each of them, whatever became of the others.
        let tasks: Vec<_> = lent.into_iter().map(Self::give_back).collect();
        self.host.mem.write_exact(memory, &0_u64.to_ne_bytes())?;
        Ok((tasks.into_iter().collect::<Result<_, _>>()?, result?))
    }

    /// Has the task make the calls of a batch.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] names the first call that failed and must not.
    pub fn run(&mut self, batch: Batch) -> Result<Replies, Error> {
        let registers = self.prepare(&batch)?;
        let after = self.run_to_end(&registers)?;
        self.replies(&batch, &after)
    }

    /// Where its batches go.
    fn batches(&self) -> AddrRange {
        self.batches.expect("mapped when it was borrowed")
    }

    /// Puts a batch into its place; gives the registers that run it.
    fn prepare(&self, batch: &Batch) -> Result<Registers, Error> {
        let place = self.batches();
        scratch::put(self.task().tid(), place, batch)?;
        Ok(arch::walk(&self.place, &self.registers, place.start(), batch.len() as u64))
    }

    fn replies(&self, batch: &Batch, after: &Registers) -> Result<Replies, Error> {
        let tid = self.task().tid();
        trace!(%tid, calls = batch.len(), left = arch::left(after), "batch");
        scratch::take(tid, self.batches().start(), batch, arch::left(after))
    }

    fn give_back(mut self) -> Result<Stopped, Error> {
        let unmapped = match self.room.take() {
            None => Ok(0),
            Some(room) => {
                // Even if the tracer dies here, this call is made once.
                self.place.scratch = Addr::NULL;
                let args = [room.start().as_raw(), room.len(), 0, 0, 0, 0];
                self.boot(&arch::boot(&self.place, &self.registers, libc::SYS_munmap, args))
            }
        };
        // Whatever became of that, it goes back to where it was.
        let mut task = self.task.take().ok_or(Error::Died(self.host.process))?;
        task.set_sigmask(self.mask)?;
        task.set_registers(&self.registers)?;
        let HeldOff { stop, trap } = self.held;
        let held = [(stop, Signal::STOP), (trap, self.place.signal)];
        held.into_iter().filter(|(came, _)| *came).for_each(|(_, signal)| send(task.tid(), signal));
        unmapped.map(|_| task)
    }
}

/// Has each of the tasks make the calls of its batch, all of them at once.
///
/// # Errors
///
/// As [`Borrowed::run`]. All have stopped again.
pub fn run_all(tasks: &mut [Borrowed<'_>], batches: Vec<Batch>) -> Result<Vec<Replies>, Error> {
    let mut running = Vec::with_capacity(tasks.len());
    let mut failure = None;
    for (borrowed, batch) in tasks.iter_mut().zip(&batches) {
        let started = borrowed.prepare(batch).and_then(|registers| {
            let task = borrowed.task.take().ok_or(Error::Died(borrowed.host.process))?;
            session::start(task, &borrowed.place, &registers)
        });
        match started {
            Ok(task) => running.push(task),
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    let mut replies = Vec::with_capacity(tasks.len());
    for ((borrowed, batch), task) in tasks.iter_mut().zip(&batches).zip(running) {
        let finished = session::finish(task, &borrowed.place, &mut borrowed.held);
        let read = finished.and_then(|(task, after)| {
            borrowed.task = Some(task);
            borrowed.replies(batch, &after)
        });
        match read {
            Ok(read) => replies.push(read),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(replies), Err)
}

/// One of so many equal parts of the memory for batches.
fn part(memory: Addr, index: u64, parts: u64) -> Option<AddrRange> {
    let len = ((SCRATCH - BATCHES) / parts) & !(BATCHES - 1);
    AddrRange::with_len(memory.checked_add(BATCHES + index * len)?, len)
}

/// Sends a signal that came while the task was borrowed.
fn send(tid: HostPid, signal: Signal) {
    let known = rustix::process::Signal::from_named_raw(signal.as_raw());
    if let Some((pid, signal)) = rustix::process::Pid::from_raw(tid.as_raw()).zip(known) {
        // The task is in a stop of ours, so the number is still its own.
        let _ = rustix::process::kill_process(pid, signal);
    }
}
