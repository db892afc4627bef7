//! Runs the code in a task, up to its end.

use dormouse_kernel::Addr;
use dormouse_kernel::ptrace::{Event, Outcome, Registers, Running, Stop, Stopped};
use dormouse_kernel::signal::Signal;

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

/// Sets the task going at `registers` and waits for its signal to itself.
pub(crate) fn run(
    task: Stopped,
    place: &Place,
    registers: &Registers,
    held: &mut HeldOff,
) -> Result<(Stopped, Registers), Error> {
    finish(start(task, place, registers)?, place, held)
}

/// Sets the task going at `registers`.
pub(crate) fn start(
    mut task: Stopped,
    place: &Place,
    registers: &Registers,
) -> Result<Running, Error> {
    task.set_registers(registers)?;
    resume(task, place)
}

fn resume(task: Stopped, place: &Place) -> Result<Running, Error> {
    Ok(if place.quiet { task.resume_to_syscall(None)? } else { task.resume(None)? })
}

/// Waits for the signal to itself of a task that was set going.
pub(crate) fn finish(
    mut running: Running,
    place: &Place,
    held: &mut HeldOff,
) -> Result<(Stopped, Registers), Error> {
    let tid = running.tid();
    let mut is_done = false;
    loop {
        let mut task = match running.wait()? {
            Outcome::Exited(_) => return Err(Error::Died(tid)),
            Outcome::Stopped(task) => task,
        };
        match task.stop() {
            Stop::Signal(signal) if signal == place.signal => {
                let registers = task.registers()?;
                if registers.rip == place.code.as_raw() + arch::done() {
                    return Ok((task, registers));
                }
                // Anybody may send it. That of the task itself comes first
                // where it is due, being its own and not the process's.
                held.trap = true;
            }
            // Before and behind every call.
            Stop::Syscall => {
                let registers = task.registers()?;
                is_done = registers.rip == place.code.as_raw() + arch::done();
                if is_done {
                    let skipped = Registers { orig_rax: Registers::NO_SYSCALL, ..registers };
                    task.set_registers(&skipped)?;
                }
            }
            Stop::Signal(Signal::STOP) => held.stop = true,
            Stop::Event(Event::Stop) | Stop::Group(_) if is_done => {
                let registers = task.registers()?;
                return Ok((task, registers));
            }
            Stop::Event(Event::Stop) | Stop::Group(_) => {}
            stop => {
                let at = Addr::from_raw(task.registers()?.rip);
                return Err(Error::Astray { task: tid, stop, at });
            }
        }
        running = if is_done {
            // Where it is, a call that was interrupted would not be restarted.
            task.interrupt()?;
            task.resume(None)?
        } else {
            resume(task, place)?
        };
    }
}
