//! A fork of the tracer, on its way to become another program.

use dormouse_kernel::clone::{CloneArgs, CloneFlags};
use dormouse_kernel::proc::ProcDir;
use dormouse_kernel::ptrace::{Event, Outcome, Registers, Running, Stop, Stopped};
use dormouse_kernel::remote_memory::Mem;
use dormouse_kernel::signal::{SigSet, Signal};
use dormouse_kernel::{Addr, AddrRange, HostPid, NsPid};

use crate::arch::{self, CODE, Place};
use crate::session::{self, HeldOff};
use crate::{Batch, Error, Replies, Slot, scratch};

/// Bytes at the beginning of a puppet's room that hold its code.
const CODE_PAGE: u64 = 4096;
/// The end of what a process can map, with four-level page tables.
const TASK_SIZE: u64 = 0x7fff_ffff_f000;

/// By which signal a puppet reports, unless that is to wait in its queues.
const REPORT: Signal = Signal::URG;

/// The mask of a puppet that reports by this signal.
fn mask(signal: Signal) -> SigSet {
    SigSet::ALL.without(signal)
}

/// A task that has no program of its own yet. All that is mapped, once it is
/// [stripped](Self::strip), is its room: a page of code, and memory for
/// batches.
#[derive(Debug)]
pub struct Bare {
    pub(crate) task: Option<Stopped>,
    pub(crate) tid: HostPid,
    pub(crate) place: Place,
    pub(crate) base: Registers,
    room: AddrRange,
    pub(crate) held: HeldOff,
}

impl Bare {
    /// Takes over a stopped fork of this very process. `room` is where its
    /// code and batches are to be.
    ///
    /// # Errors
    ///
    /// [`Error::Taken`] if something is mapped there.
    pub fn take_over(task: Stopped, own: NsPid, room: AddrRange) -> Result<Self, Error> {
        // A fork has its own copy of this process's code, at the same place.
        let here = Addr::from_raw(CODE.bytes().as_ptr().expose_provenance() as u64);
        let mut task = task;
        task.set_sigmask(mask(REPORT))?;
        let base = Registers { rax: 0, ..task.registers()? };
        let mut bare = Self::new(task, (own, own), (here, room), base);
        let flags = libc::MAP_PRIVATE
            | libc::MAP_ANONYMOUS
            | libc::MAP_FIXED_NOREPLACE
            | libc::MAP_NORESERVE;
        let pieces = [
            (room.start().as_raw(), CODE_PAGE, libc::PROT_READ | libc::PROT_EXEC),
            (
                room.start().as_raw() + CODE_PAGE,
                room.len() - CODE_PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
            ),
        ];
        for (start, len, prot) in pieces {
            let args = [start, len, prot as u64, flags as u64, u64::MAX, 0];
            match bare.boot(libc::SYS_mmap, args) {
                Ok(at) if at == start => {}
                Ok(_) | Err(Error::Call { source: dormouse_kernel::Errno::EXIST, .. }) => {
                    return Err(Error::Taken(room));
                }
                Err(error) => return Err(error),
            }
        }
        let proc = ProcDir::open(bare.tid)?;
        Mem::open(&proc)?.write_exact(room.start(), CODE.bytes())?;
        bare.place.code = room.start();
        Ok(bare)
    }

    /// A task that a batch of `maker` has made with `CLONE_PTRACE`: a process
    /// if `tgid` is its own number, else a thread of that process. It has its
    /// room from its maker: a copy, or with `CLONE_VM` the same.
    ///
    /// # Errors
    ///
    /// It has died.
    pub fn adopt(maker: &Self, tid: HostPid, own: NsPid, tgid: NsPid) -> Result<Self, Error> {
        match Running::attached(tid).wait()? {
            Outcome::Exited(_) => Err(Error::Died(tid)),
            Outcome::Stopped(mut task) => {
                // It has its maker's mask and registers.
                if maker.place.signal != REPORT {
                    task.set_sigmask(mask(REPORT))?;
                }
                let place = (maker.place.code, maker.room);
                Ok(Self::new(task, (tgid, own), place, maker.base))
            }
        }
    }

    fn new(
        task: Stopped,
        (tgid, tid): (NsPid, NsPid),
        (code, room): (Addr, AddrRange),
        base: Registers,
    ) -> Self {
        Self {
            tid: task.tid(),
            place: Place {
                code,
                context: Addr::NULL,
                tgid: tgid.as_raw(),
                tid: tid.as_raw(),
                signal: REPORT,
                scratch: Addr::NULL,
                quiet: false,
            },
            base,
            room,
            held: HeldOff::default(),
            task: Some(task),
        }
    }

    /// Its number.
    #[must_use]
    pub fn tid(&self) -> HostPid {
        self.tid
    }

    /// Where its code and batches are.
    #[must_use]
    pub fn room(&self) -> AddrRange {
        self.room
    }

    /// Its registers, to be looked at.
    ///
    /// # Panics
    ///
    /// If it has died.
    pub fn task(&self) -> &Stopped {
        self.task.as_ref().expect("the task is alive")
    }

    /// From now on, none of `signals` is used to report the end of a batch:
    /// they are to wait in its queues.
    ///
    /// # Errors
    ///
    /// It has died, or there is no other.
    pub fn avoid(&mut self, signals: SigSet) -> Result<(), Error> {
        let free = Signal::all().find(|&signal| {
            !signals.contains(signal)
                && ![Signal::KILL, Signal::STOP, Signal::CONT].contains(&signal)
        });
        if !signals.contains(self.place.signal) {
            return Ok(());
        }
        self.place.signal = free.ok_or(Error::NoSignal(self.tid))?;
        let mask = SigSet::ALL.without(self.place.signal);
        if let Some(task) = &mut self.task {
            task.set_sigmask(mask)?;
        }
        Ok(())
    }

    /// Unmaps everything but its room, after undoing what the fork has
    /// inherited and the kernel would still write to: the registration for
    /// restartable sequences.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn strip(&mut self) -> Result<(), Error> {
        let rseq = self.task().rseq()?;
        let mut batch = Batch::new();
        if let Some(rseq) = rseq {
            const UNREGISTER: u64 = 1;
            batch.call(
                libc::SYS_rseq,
                [rseq.addr.into(), rseq.size.into(), UNREGISTER.into(), rseq.signature.into()],
            );
        }
        let (start, end) = (self.room.start().as_raw(), self.room.end().as_raw());
        batch.call(libc::SYS_munmap, [0.into(), start.into()]);
        batch.call(libc::SYS_munmap, [end.into(), (TASK_SIZE - end).into()]);
        self.run(batch)?;
        Ok(())
    }

    fn run_to_end(&mut self, registers: &Registers) -> Result<Registers, Error> {
        let Self { tid, task, place, held, .. } = self;
        session::run(task, (*tid, place), *registers, held)
    }

    /// Has the task signal itself `signal`, which must be at its default
    /// action, to stop its process; tells whether it did. The process counts
    /// as stopped once each of its threads has run a batch after this, and
    /// does so while they run further ones.
    ///
    /// # Errors
    ///
    /// It has died.
    pub fn stop_by(&mut self, signal: Signal) -> Result<bool, Error> {
        self.signal_itself(signal, true)
    }

    /// Has the task signal itself SIGCONT, so that its process, which has stopped, goes on, and its parent
    /// is told. Each of its other threads notices with the next batch it runs.
    ///
    /// # Errors
    ///
    /// It has died.
    pub fn go_on(&mut self) -> Result<(), Error> {
        self.signal_itself(Signal::CONT, false).map(drop)
    }

    /// Has the task signal itself, and take the signal only if it is to; tells whether job control has
    /// stopped it.
    fn signal_itself(&mut self, signal: Signal, takes: bool) -> Result<bool, Error> {
        let args = [self.place.tgid as u64, self.place.tid as u64, signal.as_raw() as u64, 0, 0, 0];
        let mask = SigSet::ALL.without(self.place.signal);
        let mut task = self.task.take().ok_or(Error::Died(self.tid))?;
        task.set_sigmask(mask.without(signal))?;
        task.set_registers(&arch::boot(&self.place, &self.base, libc::SYS_tgkill, args))?;
        let mut stopped = false;
        let mut pass = None;
        loop {
            task = match task.resume(pass.take())?.wait()? {
                Outcome::Exited(_) => return Err(Error::Died(self.tid)),
                Outcome::Stopped(task) => task,
            };
            match task.stop() {
                Stop::Signal(found) if found == self.place.signal => break,
                Stop::Signal(found) if found == signal => pass = Some(signal).filter(|_| takes),
                Stop::Group(_) => stopped = true,
                Stop::Event(Event::Stop) => {}
                stop => {
                    let at = Addr::from_raw(task.registers()?.rip);
                    return Err(Error::Astray { task: self.tid, stop, at });
                }
            }
        }
        task.set_sigmask(mask)?;
        self.task = Some(task);
        Ok(stopped)
    }

    fn boot(&mut self, number: i64, args: [u64; 6]) -> Result<u64, Error> {
        let registers = arch::boot(&self.place, &self.base, number, args);
        let result = arch::boot_result(&self.run_to_end(&registers)?);
        match crate::batch::failure(result) {
            None => Ok(result.cast_unsigned()),
            Some(source) => Err(Error::Call {
                task: self.tid,
                call: crate::error::Syscall(number),
                args: crate::error::Args(args),
                source,
            }),
        }
    }

    /// Has the task make the calls of a batch.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] names the first call that failed and must not.
    pub fn run(&mut self, batch: Batch) -> Result<Replies, Error> {
        let room = self.batches();
        let start = room.start();
        scratch::put(self.tid, room, &batch)?;
        let registers = arch::walk(&self.place, &self.base, start, batch.len() as u64);
        let after = self.run_to_end(&registers)?;
        let left = arch::left(&after);
        scratch::take(self.tid, start, &batch, left)
    }

    /// Has the process end, as a zombie that its parent has to see, with the
    /// status given: an exit code, or a signal.
    ///
    /// # Errors
    ///
    /// It has died before.
    pub fn end(mut self, ending: Ending) -> Result<(), Error> {
        let mut task = self.task.take().ok_or(Error::Died(self.tid))?;
        match ending {
            Ending::Exit(code) => {
                let args = [code.into(), 0, 0, 0, 0, 0];
                let registers = arch::boot(&self.place, &self.base, libc::SYS_exit_group, args);
                task.set_registers(&registers)?;
                let mut running = task.resume(None)?;
                loop {
                    match running.wait()? {
                        Outcome::Exited(_) => return Ok(()),
                        Outcome::Stopped(task) => running = task.resume(None)?,
                    }
                }
            }
            Ending::Signal(signal) => {
                task.set_sigmask(SigSet::ALL.without(self.place.signal).without(signal))?;
                let args = [
                    self.place.tgid as u64,
                    self.place.tid as u64,
                    signal.as_raw() as u64,
                    0,
                    0,
                    0,
                ];
                let registers = arch::boot(&self.place, &self.base, libc::SYS_tgkill, args);
                task.set_registers(&registers)?;
                let mut running = task.resume(None)?;
                loop {
                    match running.wait()? {
                        Outcome::Exited(_) => return Ok(()),
                        Outcome::Stopped(task) => {
                            let pass = match task.stop() {
                                Stop::Signal(found) if found == signal => Some(signal),
                                _ => None,
                            };
                            running = task.resume(pass)?;
                        }
                    }
                }
            }
        }
    }

    /// Has the first thread of a process end by itself, by `exit(2)` with this
    /// code; the others go on.
    ///
    /// # Errors
    ///
    /// It has died before.
    pub fn end_thread(mut self, code: u8) -> Result<(), Error> {
        let mut task = self.task.take().ok_or(Error::Died(self.tid))?;
        let args = [code.into(), 0, 0, 0, 0, 0];
        task.set_registers(&arch::boot(&self.place, &self.base, libc::SYS_exit, args))?;
        let proc = ProcDir::open(self.tid)?;
        let has_ended = || proc.stat().is_ok_and(|stat| stat.state.is_dead());
        let mut running = task.resume(None)?;
        while let Some(Outcome::Stopped(task)) = running.wait_unless(&has_ended)? {
            running = task.resume(None)?;
        }
        Ok(())
    }

    /// Gives the task its own registers and mask. It stays stopped.
    ///
    /// # Errors
    ///
    /// It has died, or the kernel does not accept the registers.
    pub fn become_program(
        mut self,
        (registers, xstate): (&Registers, &[u8]),
        mask: SigSet,
    ) -> Result<Stopped, Error> {
        let mut task = self.task.take().ok_or(Error::Died(self.tid))?;
        task.set_xstate(xstate)?;
        task.set_registers(registers)?;
        task.set_sigmask(mask)?;
        Ok(task)
    }

    /// Has the task make a call with an interrupt waiting for it, so that it
    /// cannot block, and gives what it answered. The task is left where the
    /// kernel has yet to look for signals and for calls to be restarted, and
    /// has not gone back to its code.
    pub(crate) fn call_interrupted(&mut self, number: i64, args: [u64; 6]) -> Result<u64, Error> {
        let mut call = self.begin_interrupted(number, args)?;
        while let Some(next) = self.go_on_interrupted(call)? {
            call = next;
        }
        Ok(self.task().registers()?.rax)
    }

    fn begin_interrupted(&mut self, number: i64, args: [u64; 6]) -> Result<InterruptedCall, Error> {
        let mut task = self.task.take().ok_or(Error::Died(self.tid))?;
        task.set_registers(&arch::boot(&self.place, &self.base, number, args))?;
        Ok(InterruptedCall { running: task.resume_to_syscall(None)?, entered: false })
    }

    /// Waits for the next stop of such a call; `None` if it was the last.
    fn go_on_interrupted(
        &mut self,
        InterruptedCall { running, mut entered }: InterruptedCall,
    ) -> Result<Option<InterruptedCall>, Error> {
        let mut task = match running.wait()? {
            Outcome::Exited(_) => return Err(Error::Died(self.tid)),
            Outcome::Stopped(task) => task,
        };
        match task.stop() {
            Stop::Syscall if !entered => entered = true,
            Stop::Event(Event::Stop) | Stop::Group(_) if entered => {
                self.task = Some(task);
                return Ok(None);
            }
            Stop::Event(Event::Stop) | Stop::Group(_) => {}
            Stop::Signal(Signal::STOP) => self.held.stop = true,
            stop => {
                let at = Addr::from_raw(task.registers()?.rip);
                return Err(Error::Astray { task: self.tid, stop, at });
            }
        }
        let running = if entered {
            task.interrupt()?;
            task.resume(None)?
        } else {
            task.resume_to_syscall(None)?
        };
        Ok(Some(InterruptedCall { running, entered }))
    }

    /// Where batches are.
    pub(crate) fn batches(&self) -> AddrRange {
        let start = self.room.start().checked_add(CODE_PAGE).expect("a room is larger than a page");
        AddrRange::new(start, self.room.end()).expect("a room is larger than a page")
    }
}

/// A call that is made with an interrupt waiting, on its way.
struct InterruptedCall {
    running: Running,
    /// Whether the task is in the call.
    entered: bool,
}

/// Has tasks unmap their rooms, all at once; each is the last of its address space. They have still to
/// [become programs](Bare::become_program).
///
/// # Errors
///
/// One has died.
pub fn vacate_together<'a>(tasks: impl IntoIterator<Item = &'a mut Bare>) -> Result<(), Error> {
    let mut calls = Vec::new();
    for task in tasks {
        let args = [task.room.start().as_raw(), task.room.len(), 0, 0, 0, 0];
        let call = task.begin_interrupted(libc::SYS_munmap, args)?;
        calls.push((task, call));
    }
    while !calls.is_empty() {
        let mut left = Vec::with_capacity(calls.len());
        for (task, call) in calls {
            if let Some(call) = task.go_on_interrupted(call)? {
                left.push((task, call));
            }
        }
        calls = left;
    }
    Ok(())
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By `exit(2)`, with this code.
    Exit(u8),
    /// By this signal.
    Signal(Signal),
}

impl Batch {
    /// Adds a call of `clone3(2)` that makes a task with the number `pid`,
    /// traced as its maker is.
    pub fn clone_task(
        &mut self,
        flags: CloneFlags,
        exit_signal: Option<Signal>,
        pid: NsPid,
    ) -> Slot {
        let set_tid = self.data(&pid.as_raw().to_ne_bytes());
        let args = CloneArgs {
            flags: (flags | CloneFlags::PTRACE).bits(),
            exit_signal: exit_signal.map_or(0, |signal| signal.as_raw() as u64),
            set_tid_size: 1,
            ..CloneArgs::default()
        };
        let at = std::mem::offset_of!(CloneArgs, set_tid);
        let args = self.data(&args.to_bytes());
        self.point(args, at, set_tid);
        self.call(libc::SYS_clone3, [args.into(), (CloneArgs::SIZE as u64).into()])
    }
}
