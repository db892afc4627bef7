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
//!    program, and a stop to the tracer.
//! 4. It is given back the other way round: mask, registers, code.
//!
//! One context is enough for a whole process, as its tasks are borrowed one
//! after the other.

use dormouse_kernel::proc::{ProcDir, Status};
use dormouse_kernel::ptrace::{Registers, Stopped};
use dormouse_kernel::remote_memory::Mem;
use dormouse_kernel::signal::{SigSet, Signal};
use dormouse_kernel::{Addr, AddrRange, HostPid};
use tracing::trace;

use crate::arch::{self, CODE, Context, Place, SCRATCH};
use crate::resumption::interruption;
use crate::session::{self, HeldOff};
use crate::{Batch, Error, Replies, rseq, scratch};

/// A process whose tasks can be borrowed: the code is in its place.
#[derive(Debug)]
pub struct Host {
    process: HostPid,
    mem: Mem,
    /// Where the code is; the context follows it.
    code: Addr,
    /// What was there before.
    original: Vec<u8>,
}

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

/// The place behind the ELF image of a vDSO, if `needed` bytes are free there.
fn behind_image(mem: &Mem, vdso: AddrRange, needed: u64) -> Result<Option<Addr>, Error> {
    let mut header = [0; 64];
    mem.read_exact(vdso.start(), &mut header)?;
    let used = image_size(&header).next_multiple_of(16);
    Ok((used + needed <= vdso.len()).then(|| vdso.start().checked_add(used)).flatten())
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
        let needed = CODE.bytes().len().next_multiple_of(16) + Context::SIZE;
        let mem = Mem::open(proc)?;
        let mut place = match vdso {
            Some(vdso) => behind_image(&mem, vdso, needed as u64)?,
            None => None,
        };
        for mapping in others {
            if place.is_some() {
                break;
            }
            place = at_the_end(&mem, mapping, needed as u64);
        }
        let Some(code) = place else { return Err(Error::NoRoom { task: process, needed }) };
        let mut original = vec![0; needed];
        mem.read_exact(code, &mut original)?;
        mem.write_exact(code, CODE.bytes())?;
        Ok(Self { process, mem, code, original })
    }

    fn context(&self) -> Addr {
        let after = CODE.bytes().len().next_multiple_of(16) as u64;
        self.code.checked_add(after).expect("within the vDSO")
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
        let mut borrowed = self.take(task, status)?;
        let result = match borrowed.map() {
            Ok(()) => work(&mut borrowed),
            Err(error) => Err(error.into()),
        };
        Ok((borrowed.give_back()?, result))
    }

    fn take(&self, mut task: Stopped, status: &Status) -> Result<Borrowed<'_>, Error> {
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
        self.mem.write_exact(self.context(), &Context::new(mask, &on_death).to_bytes())?;
        let TrapSignal(signal) = TrapSignal::choose(status);
        let raw = |pid: Option<dormouse_kernel::NsPid>| pid.map_or(0, |pid| pid.as_raw());
        let place = Place {
            code: self.code,
            context: self.context(),
            tgid: raw(status.innermost_tgid()),
            tid: raw(status.innermost_pid()),
            signal,
            scratch: Addr::NULL,
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

/// A borrowed task.
#[derive(Debug)]
pub struct Borrowed<'a> {
    /// Always there, but for the moments in which the task runs.
    task: Option<Stopped>,
    place: Place,
    registers: Registers,
    mask: SigSet,
    room: Option<AddrRange>,
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
        Ok(())
    }

    /// Has the task make the calls of a batch.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] names the first call that failed and must not.
    pub fn run(&mut self, batch: Batch) -> Result<Replies, Error> {
        let tid = self.task().tid();
        let room = self.room.expect("mapped when it was borrowed");
        scratch::put(tid, room, &batch)?;
        let count = batch.len() as u64;
        let registers = arch::walk(&self.place, &self.registers, room.start(), count);
        let after = self.run_to_end(&registers)?;
        trace!(%tid, calls = count, left = arch::left(&after), "batch");
        scratch::take(tid, room.start(), &batch, arch::left(&after))
    }

    fn give_back(mut self) -> Result<Stopped, Error> {
        if let Some(room) = self.room.take() {
            // Even if the tracer dies here, this call is made once.
            self.place.scratch = Addr::NULL;
            let args = [room.start().as_raw(), room.len(), 0, 0, 0, 0];
            self.boot(&arch::boot(&self.place, &self.registers, libc::SYS_munmap, args))?;
        }
        let mut task = self.task.take().ok_or(Error::Died(self.host.process))?;
        task.set_sigmask(self.mask)?;
        task.set_registers(&self.registers)?;
        if self.held.stop {
            send_stop(task.tid());
        }
        Ok(task)
    }
}

/// Sends the SIGSTOP that came while the task was borrowed.
fn send_stop(tid: HostPid) {
    if let Some(pid) = rustix::process::Pid::from_raw(tid.as_raw()) {
        // The task is in a stop of ours, so the number is still its own.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::STOP);
    }
}
