//! Traced tasks, running and stopped.

use super::error::{Error, Request};
use super::options::Options;
use super::raw;
use super::registers::Registers;
use super::status::{Change, Event, Exit, Stop, decode};
use crate::signal::Signal;
use crate::{Errno, HostPid};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::cell::OnceCell;
use std::marker::PhantomData;
use std::time::Duration;

/// Makes its owner stay on its thread.
type NotSend = PhantomData<*const ()>;

/// A traced task that runs, or will until it is waited for. It may be dead.
///
/// Dropping it changes nothing for the task: it stays traced until the
/// tracer ends.
#[must_use = "the task stays traced"]
#[derive(Debug)]
pub struct Running {
    tid: HostPid,
    not_send: NotSend,
}

/// A traced task that is stopped, so it can be looked into and changed.
///
/// Dropping it changes nothing for the task: it stays stopped until the
/// tracer ends.
#[must_use = "the task stays stopped"]
#[derive(Debug)]
pub struct Stopped {
    tid: HostPid,
    stop: Stop,
    /// As they were read; nobody but the tracer changes them.
    pub(super) registers: OnceCell<Box<Registers>>,
    not_send: NotSend,
}

/// What [`Running::wait`] waited for.
#[derive(Debug)]
pub enum Outcome {
    /// The task has stopped.
    Stopped(Stopped),
    /// The task has ended, and is reaped.
    Exited(Exit),
}

/// What came of [`Running::halt`].
#[derive(Debug)]
pub enum Halt {
    /// The task is stopped, and at rest ([`Stop::is_rest`]).
    Halted {
        /// It.
        task: Stopped,
        /// Tasks it made on the way there, which are attached because of the
        /// options given: [`Running::attached`] takes them.
        born: Vec<HostPid>,
    },
    /// The task has ended, and is reaped.
    Exited {
        /// How.
        exit: Exit,
        /// As above.
        born: Vec<HostPid>,
    },
    /// The caller said that it is not to be waited for ([`Halting::finish_unless`]).
    Ended {
        /// As above.
        born: Vec<HostPid>,
    },
}

impl Running {
    /// Begins to trace a task, which runs on (`PTRACE_SEIZE`). If job control
    /// holds it, it will report [`Stop::Group`] at once.
    ///
    /// # Errors
    ///
    /// `EPERM` if the caller may not, if it is traced already, or for a zombie
    /// or kernel thread; [`Error::Died`] if there is none of that number.
    pub fn seize(tid: HostPid, options: Options) -> Result<Self, Error> {
        raw::plain(libc::PTRACE_SEIZE, Request::Seize, tid, options.bits() as usize)?;
        Ok(Self::attached(tid))
    }

    /// A task that the kernel has attached to the calling thread by itself:
    /// because of [`Options::TRACEFORK`] and its like, or because it was made
    /// with `CLONE_PTRACE` by a traced task. Its first stop is [`Event::Stop`].
    ///
    /// On a task which is not attached, all requests fail.
    pub const fn attached(tid: HostPid) -> Self {
        Self { tid, not_send: PhantomData }
    }

    /// Its number.
    #[must_use]
    pub const fn tid(&self) -> HostPid {
        self.tid
    }

    /// Has the task stop as soon as it can (`PTRACE_INTERRUPT`), which
    /// [`Self::wait`] will report as [`Event::Stop`] unless there is another
    /// reason to stop.
    ///
    /// # Errors
    ///
    /// [`Error::Died`].
    pub fn interrupt(&mut self) -> Result<(), Error> {
        interrupt(self.tid)
    }

    /// Waits until the task stops or ends. The end of a process's first thread
    /// is not reported before that of all others.
    ///
    /// # Errors
    ///
    /// [`Error::Died`] if the task is gone without a report: somebody else has
    /// reaped it, or another thread of its process has called `execve(2)`.
    pub fn wait(self) -> Result<Outcome, Error> {
        loop {
            if let Some(status) = raw::wait(self.tid, true)? {
                return self.outcome(status);
            }
        }
    }

    /// Looks whether the task has stopped or ended. `Err(self)` inside of `Ok`
    /// if it has not.
    ///
    /// # Errors
    ///
    /// As [`Self::wait`].
    pub fn try_wait(self) -> Result<Result<Outcome, Self>, Error> {
        match raw::wait(self.tid, false)? {
            Some(status) => self.outcome(status).map(Ok),
            None => Ok(Err(self)),
        }
    }

    fn outcome(self, status: i32) -> Result<Outcome, Error> {
        match decode(status) {
            Some(Change::Stopped(stop)) => {
                let registers = OnceCell::new();
                Ok(Outcome::Stopped(Stopped {
                    tid: self.tid,
                    stop,
                    registers,
                    not_send: PhantomData,
                }))
            }
            Some(Change::Exited(exit)) => Ok(Outcome::Exited(exit)),
            None => Err(Error::UnknownStatus { tid: self.tid, status }),
        }
    }

    /// Stops the task where it can stay unnoticed: in a stop by
    /// `PTRACE_INTERRUPT` or a group stop. Signals that come first are passed
    /// on, so a handler may be entered, but the program gets no further.
    ///
    /// If job control stops it at the same moment, the interrupt stays
    /// pending: resumed, the task reports [`Stop::Group`] once more.
    ///
    /// # Errors
    ///
    /// As [`Self::wait`].
    pub fn halt(self) -> Result<Halt, Error> {
        self.begin_halt()?.finish()
    }

    /// The first half of [`Self::halt`]: many tasks stop sooner if all of them
    /// are told to before the first is waited for.
    ///
    /// # Errors
    ///
    /// As [`Self::wait`].
    pub fn begin_halt(self) -> Result<Halting, Error> {
        // What has stopped already needs no interrupt, which would be pending
        // still after the next resumption.
        Ok(Halting(match self.try_wait()? {
            Ok(outcome) => Ok(outcome),
            Err(mut running) => {
                alive(running.interrupt())?;
                Err(running)
            }
        }))
    }

    /// Waits, and looks now and then whether there is anything to wait for:
    /// `None` if it `is_over`, and no wait tells of it.
    ///
    /// # Errors
    ///
    /// As [`Self::wait`].
    pub fn wait_unless(mut self, is_over: &impl Fn() -> bool) -> Result<Option<Outcome>, Error> {
        // Most tasks stop at once.
        const AT_ONCE: u32 = 64;
        for look in 0_u32.. {
            self = match self.try_wait()? {
                Ok(outcome) => return Ok(Some(outcome)),
                Err(running) => running,
            };
            if look < AT_ONCE {
                std::thread::yield_now();
                continue;
            }
            if is_over() {
                // A report that came in between counts.
                return Ok(self.try_wait()?.ok());
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        self.wait().map(Some)
    }
}

/// A task that was told to stop, or had stopped: see [`Running::begin_halt`].
#[derive(Debug)]
#[must_use = "a task that is not waited for stays where it is"]
pub struct Halting(Result<Outcome, Running>);

impl Halting {
    /// The second half of [`Running::halt`].
    ///
    /// # Errors
    ///
    /// As [`Running::wait`].
    pub fn finish(self) -> Result<Halt, Error> {
        self.finish_by(|running| running.wait().map(Some))
    }

    /// As [`Self::finish`], unless the waiting `is_over`: because time is up, or
    /// because the task is the first thread of a process and has ended while
    /// others run on, of which no wait tells.
    ///
    /// # Errors
    ///
    /// As [`Running::wait`].
    pub fn finish_unless(self, is_over: impl Fn() -> bool) -> Result<Halt, Error> {
        self.finish_by(|running| running.wait_unless(&is_over))
    }

    fn finish_by(
        self,
        wait: impl Fn(Running) -> Result<Option<Outcome>, Error>,
    ) -> Result<Halt, Error> {
        let mut born = Vec::new();
        let mut outcome = match self.0 {
            Ok(outcome) => Some(outcome),
            Err(running) => wait(running)?,
        };
        loop {
            let task = match outcome {
                None => return Ok(Halt::Ended { born }),
                Some(Outcome::Exited(exit)) => return Ok(Halt::Exited { exit, born }),
                Some(Outcome::Stopped(task)) if task.stop.is_rest() => {
                    return Ok(Halt::Halted { task, born });
                }
                Some(Outcome::Stopped(task)) => task,
            };
            let pass = match task.stop {
                Stop::Signal(signal) => Some(signal),
                Stop::Event(Event::Fork | Event::Vfork | Event::Clone) => {
                    born.extend(task.new_task()?);
                    None
                }
                Stop::Event(_) | Stop::Group(_) | Stop::Syscall => None,
            };
            outcome = wait(task.interrupt_and_resume(pass)?)?;
        }
    }
}

impl Stopped {
    /// Its number.
    #[must_use]
    pub const fn tid(&self) -> HostPid {
        self.tid
    }

    /// Why it stopped.
    #[must_use]
    pub const fn stop(&self) -> Stop {
        self.stop
    }

    /// The task made at [`Event::Fork`], [`Event::Vfork`] or [`Event::Clone`].
    fn new_task(&self) -> Result<Option<HostPid>, Error> {
        match self.event_message() {
            Ok(message) => Ok(i32::try_from(message).ok().and_then(HostPid::from_raw)),
            Err(Error::Died { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has the task stop again right after it is resumed, before its program
    /// gets any further.
    ///
    /// # Errors
    ///
    /// [`Error::Died`].
    pub fn interrupt(&mut self) -> Result<(), Error> {
        interrupt(self.tid)
    }

    /// Any stop makes the kernel forget an interrupt that is pending
    /// (`ptrace_stop` in `kernel/signal.c`), so there is a new one.
    fn interrupt_and_resume(mut self, pass: Option<Signal>) -> Result<Running, Error> {
        alive(self.interrupt())?;
        self.resume(pass)
    }

    /// Sets the task going. In [`Stop::Signal`] `signal` is delivered (`None`:
    /// nothing is, the signal is lost); in other stops it is ignored.
    ///
    /// If the task has died meanwhile, [`Running::wait`] will say so.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn resume(self, signal: Option<Signal>) -> Result<Running, Error> {
        self.restart(libc::PTRACE_CONT, Request::Resume, signal)
    }

    /// As [`Self::resume`], up to the next begin or end of a system call
    /// ([`Stop::Syscall`], with [`Options::TRACESYSGOOD`]).
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn resume_to_syscall(self, signal: Option<Signal>) -> Result<Running, Error> {
        self.restart(libc::PTRACE_SYSCALL, Request::ResumeToSyscall, signal)
    }

    fn restart(
        self,
        request: libc::c_uint,
        name: Request,
        signal: Option<Signal>,
    ) -> Result<Running, Error> {
        let data = signal.map_or(0, Signal::as_raw) as usize;
        alive(raw::plain(request, name, self.tid, data))?;
        Ok(Running::attached(self.tid))
    }

    /// Leaves a task in its group stop until something happens to it, as if it
    /// were not traced (`PTRACE_LISTEN`).
    ///
    /// # Errors
    ///
    /// `EIO` if the task is in no such stop.
    pub fn listen(self) -> Result<Running, Error> {
        self.restart(libc::PTRACE_LISTEN, Request::Listen, None)
    }

    /// Whether there is something new to wait for: the task was killed, or
    /// another thread of its process has taken its number by `execve(2)`.
    /// Takes no note of it.
    fn has_news(&self) -> Result<bool, Error> {
        const LOOK: WaitIdOptions = WaitIdOptions::STOPPED
            .union(WaitIdOptions::EXITED)
            .union(WaitIdOptions::NOHANG)
            .union(WaitIdOptions::NOWAIT);
        let tid = Pid::from_raw(self.tid.as_raw()).ok_or(Error::Died { tid: self.tid })?;
        match waitid(WaitId::Pid(tid), LOOK) {
            Ok(status) => Ok(status.is_some()),
            Err(Errno::CHILD) => Err(Error::Died { tid: self.tid }),
            Err(source) => Err(raw::refusal(Request::Wait, self.tid, source)),
        }
    }

    /// Whether it is still there and stopped as it was: it may have been killed, or another thread of
    /// its process have taken its number by `execve(2)`.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn is_at_rest(&self) -> Result<bool, Error> {
        // The kernel tells it of tasks alone that this thread traces and that are stopped.
        match self.event_message().and_then(|_| self.has_news()) {
            Ok(has_news) => Ok(!has_news),
            Err(Error::Died { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends the tracing: the task runs on, with `signal` delivered as in
    /// [`Self::resume`]. If job control holds its process, it stays stopped.
    ///
    /// # Errors
    ///
    /// [`Error::Died`], and the task has still to be reaped.
    pub fn detach(self, signal: Option<Signal>) -> Result<(), Error> {
        let data = signal.map_or(0, Signal::as_raw) as usize;
        raw::plain(libc::PTRACE_DETACH, Request::Detach, self.tid, data)
    }
}

fn interrupt(tid: HostPid) -> Result<(), Error> {
    raw::plain(libc::PTRACE_INTERRUPT, Request::Interrupt, tid, 0)
}

/// That a task is dead is for `wait` to report, with how it ended.
fn alive(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::Died { .. }) => Ok(()),
        result => result,
    }
}

/// Takes note of the end of a task that was traced, so that the kernel can
/// let go of it and its parent learns of it. `None` if it has not ended yet:
/// dying takes its time, and the first thread of a process stays until all
/// others are reaped.
///
/// # Errors
///
/// [`Error::Died`] if that was done before.
pub fn reap(tid: HostPid) -> Result<Option<Exit>, Error> {
    loop {
        match raw::wait(tid, false)?.map(|status| (status, decode(status))) {
            None => return Ok(None),
            Some((_, Some(Change::Exited(exit)))) => return Ok(Some(exit)),
            // A stop that was reported before the end.
            Some((_, Some(Change::Stopped(_)))) => {}
            Some((status, None)) => return Err(Error::UnknownStatus { tid, status }),
        }
    }
}
