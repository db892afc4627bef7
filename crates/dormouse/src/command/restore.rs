//! `restore`

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use dormouse_engine::{RestoreOptions, RootParent};
use dormouse_kernel::clone;
use dormouse_kernel::pidfd::PidFd;
use dormouse_kernel::{FdNum, HostPid};
use tracing::info;

use super::foreground::Foreground;
use super::worker::{self, Outcome, Side};
use super::{Done, engine, stats};
use crate::args::{FileValidation, Restore};
use crate::failure::Failure;
use crate::persona::Persona;
use crate::progress::Bar;
use crate::terminal;

/// What tools look for in the log.
const FINISHED: &str = "Restore finished successfully. Tasks resumed.";

/// The descriptors of `--inherit-fd`.
fn handed_over(restore: &Restore) -> Result<Vec<(String, OwnedFd)>, Failure> {
    let own = HostPid::from_raw(std::process::id().cast_signed());
    let own = own.expect("a process has a pid above zero");
    let fetch = |(fd, key): &(FdNum, String)| {
        let file = PidFd::open(own).and_then(|own| own.get_fd(*fd));
        let failed = |source| Failure::Inherit { fd: *fd, source };
        Ok((key.clone(), file.map_err(failed)?))
    };
    restore.inherit_fd.iter().map(fetch).collect()
}

pub(super) fn run(persona: Persona, restore: &Restore, work: &Path) -> Result<Done, Failure> {
    let mut options = RestoreOptions {
        inherit: handed_over(restore)?,
        work: Some(work.to_owned()),
        needs_stats: restore.display_stats,
        shell_job: restore.shell_job,
        tcp: restore.tcp.policy(),
        build_ids: restore.file_validation == FileValidation::Buildid,
        cpu: restore.cpu_checks(),
        parent: if restore.restore_sibling { RootParent::Other } else { RootParent::Caller },
        pidfile: restore.pidfile.as_ref().map(|file| work.join(file)),
        leave_stopped: restore.leave_stopped,
        ..RestoreOptions::new(restore.images())
    };
    if restore.dry_run {
        let plan = engine::plan(&options)?;
        terminal::print(&plan.to_string()).map_err(Failure::Output)?;
        return Ok(Done::SUCCESS);
    }
    if restore.restore_sibling {
        // Its parent is to be ours, and the kernel makes nobody's grandchild.
        let mut bar = Bar::new("restore");
        engine::restore(&mut options, &mut bar)?;
        bar.finish();
        info!("{FINISHED}");
        return finish(restore, work).map(|()| Done::SUCCESS);
    }
    if restore.restore_detached {
        // An orphan root is not to be this command's, which ends.
        clone::adopt_nobody().map_err(|error| Failure::Worker { source: error.into() })?;
    }
    let worker = match worker::split(&options.images)? {
        Side::Command(worker) => worker,
        Side::Worker(mut report) => {
            options.parent = match restore.restore_detached {
                true => RootParent::Leaving,
                false => RootParent::Other,
            };
            let mut bar = Bar::new("restore");
            let restored = engine::restore(&mut options, &mut report.watch(&mut bar))?;
            bar.finish();
            info!("{FINISHED}");
            report.restored(restored.root);
            return Ok(Done::SUCCESS);
        }
    };
    if restore.restore_detached || !restore.exec.is_empty() {
        if let Outcome::Failed(code) = worker.finish(|| ())? {
            return Ok(Done::Told(code));
        }
        finish(restore, work)?;
        return match restore.exec.split_first() {
            None => Ok(Done::SUCCESS),
            Some((command, arguments)) => Err(Failure::Exec {
                command: PathBuf::from(command),
                source: Command::new(command).args(arguments).exec(),
            }),
        };
    }

    let foreground = Foreground::begin(persona)?;
    match worker.finish(|| foreground.released())? {
        Outcome::Failed(code) => Ok(Done::Told(code)),
        Outcome::Restored(root) => {
            finish(restore, work)?;
            foreground.wait(persona, root)
        }
    }
}

/// What remains to be told of a program that runs.
fn finish(restore: &Restore, work: &Path) -> Result<(), Failure> {
    if restore.display_stats { stats::print_restore(work) } else { Ok(()) }
}
