//! A dump or restore in a process of its own.
//!
//! Restore: when the restored tasks are let go one after the other, those that are
//! still held would die with dormouse, and the others live on. So another
//! process does the work, which dies with this one until all is ready, and
//! from then on outlives it: whenever the command is killed, all of the
//! program is there or nothing of it.
//!
//! Dump: a task that was stopped in the middle of a call would be told
//! `EINTR` if its tracer died before it has hidden that, and a task that job
//! control has stopped makes calls for dormouse that it cannot finish alone. So
//! the tracer is another process, out of reach of what ends the command: if
//! that is gone, it undoes all and ends.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::path::Path;

use dormouse_engine::{Phase, Progress};
use dormouse_image::proto::pstree::PstreeEntry;
use dormouse_image::{ImageDir, ImageName};
use dormouse_kernel::HostPid;
use dormouse_kernel::clone::{self, Forked};
use dormouse_kernel::rlimit;
use rustix::process::{Pid, WaitOptions, waitpid};

use super::Done;
use crate::failure::Failure;

/// Which of the two processes this is.
pub(super) enum Side {
    /// The one that does the work.
    Worker(Report),
    /// The one that waits for it.
    Command(Worker),
}

/// What the worker tells the command.
pub(super) struct Report(PipeWriter);

/// The worker, as the command sees it.
pub(super) struct Worker {
    pid: HostPid,
    report: PipeReader,
}

/// How the work ended.
pub(super) enum Outcome {
    /// The program runs; its root.
    Restored(HostPid),
    /// It does not, which the worker has told the user; its exit code.
    Failed(u8),
}

/// Told when the program begins to run.
const RELEASED: u8 = b'r';

/// Makes a worker for a dump: `work` in another process, whose exit code is
/// the result.
pub(super) fn dump(work: impl FnOnce(Sentry) -> Result<(), Failure>) -> Result<Done, Failure> {
    let failed = |source: io::Error| Failure::Worker { source };
    let command = HostPid::of_self();
    clone::keep_ended_children().map_err(|error| failed(error.into()))?;
    match clone::fork().map_err(|error| failed(error.into()))? {
        Forked::Parent(pid) => match wait(pid).map_err(failed)? {
            0 => Ok(Done::SUCCESS),
            code => Ok(Done::Told(code)),
        },
        Forked::Child => {
            clone::stand_apart().map_err(|error| failed(error.into()))?;
            be_unlimited()?;
            work(Sentry { command })?;
            Ok(Done::SUCCESS)
        }
    }
}

/// Makes a worker for a restore from `images`.
pub(super) fn split(images: &Path) -> Result<Side, Failure> {
    let failed = |source: io::Error| Failure::Worker { source };
    let (report, reporter) = io::pipe().map_err(failed)?;
    let needed = pids(images);
    clone::keep_ended_children().map_err(|error| failed(error.into()))?;
    loop {
        match clone::fork().map_err(|error| failed(error.into()))? {
            Forked::Child => {
                let own = HostPid::of_self().as_raw();
                if needed.contains(&own.unsigned_abs()) {
                    std::process::exit(0);
                }
                be_unlimited()?;
                return Ok(Side::Worker(Report(reporter)));
            }
            Forked::Parent(pid) if needed.contains(&pid.as_raw().unsigned_abs()) => {
                // The next one will have another number.
                wait(pid).map_err(failed)?;
            }
            Forked::Parent(pid) => return Ok(Side::Command(Worker { pid, report })),
        }
    }
}

/// A dump holds many files of the program at once, and tasks that are restored
/// have the worker's limits until they get their own: those of the shell that
/// the command was started from are not meant for them.
fn be_unlimited() -> Result<(), Failure> {
    rlimit::raise_own().map_err(|error| Failure::Worker { source: error.source.into() })
}

/// The numbers that the worker must not have. What is wrong with the images is
/// for the worker to say.
fn pids(images: &Path) -> Vec<u32> {
    let entries = ImageDir::open(images)
        .and_then(|(dir, _)| dir.get_all::<PstreeEntry>(ImageName::PsTree))
        .unwrap_or_default();
    entries
        .into_iter()
        .flat_map(|entry| [vec![entry.pid, entry.pgid, entry.sid], entry.threads].concat())
        .collect()
}

/// Waits for the end of a child; its exit code, or 128 and the signal.
fn wait(pid: HostPid) -> io::Result<u8> {
    let pid = Pid::from_raw(pid.as_raw()).expect("a pid is positive");
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => {
                let code = status.exit_status().or(status.terminating_signal().map(|n| 128 + n));
                return Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX));
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Report {
    /// Hands progress on to `progress`, and outlives the command from the
    /// moment that the program begins to run.
    pub(super) fn watch<'a>(
        &'a mut self,
        progress: &'a mut dyn Progress,
    ) -> impl Progress + use<'a> {
        Watch { report: self, progress }
    }

    /// All is done.
    pub(super) fn restored(mut self, root: HostPid) {
        // Without a command there is nobody to tell.
        let _ = self.0.write_all(&root.as_raw().to_ne_bytes());
    }
}

/// Tells whether the command is still there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sentry {
    command: HostPid,
}

impl Sentry {
    /// Hands progress on to `progress`, and abandons the dump if the command
    /// is gone.
    pub(super) fn guard(self, progress: &mut dyn Progress) -> impl Progress {
        Guarded { sentry: self, progress }
    }
}

struct Guarded<'a> {
    sentry: Sentry,
    progress: &'a mut dyn Progress,
}

impl Progress for Guarded<'_> {
    fn phase(&mut self, phase: Phase, bytes: Option<u64>) {
        self.progress.phase(phase, bytes);
    }

    fn advance(&mut self, bytes: u64) {
        self.progress.advance(bytes);
    }

    fn is_abandoned(&self) -> bool {
        clone::parent() != Some(self.sentry.command)
    }
}

struct Watch<'a> {
    report: &'a mut Report,
    progress: &'a mut dyn Progress,
}

impl Progress for Watch<'_> {
    fn phase(&mut self, phase: Phase, bytes: Option<u64>) {
        self.progress.phase(phase, bytes);
        if phase == Phase::Release {
            let _ = self.report.0.write_all(&[RELEASED]);
            // If this could fail, the program would end with the command.
            let _ = clone::outlive_parent();
        }
    }

    fn advance(&mut self, bytes: u64) {
        self.progress.advance(bytes);
    }

    fn is_abandoned(&self) -> bool {
        // The end of the command ends this process, or is nothing to it.
        false
    }
}

impl Worker {
    /// Waits until the work is done; calls `released` when the program begins
    /// to run.
    pub(super) fn finish(mut self, released: impl FnOnce()) -> Result<Outcome, Failure> {
        let mut said = [0; 1];
        let mut root = [0; 4];
        let told = || {
            self.report.read_exact(&mut said)?;
            released();
            self.report.read_exact(&mut root)
        };
        let told = told();
        let code = wait(self.pid).map_err(|source| Failure::Worker { source })?;
        match HostPid::from_raw(i32::from_ne_bytes(root)) {
            Some(root) if told.is_ok() => Ok(Outcome::Restored(root)),
            _ => Ok(Outcome::Failed(code)),
        }
    }
}
