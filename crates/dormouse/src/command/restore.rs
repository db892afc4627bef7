//! `restore`

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use dormouse_engine::RestoreOptions;

use super::foreground::Foreground;
use super::{Done, engine, stats};
use crate::args::Restore;
use crate::failure::Failure;
use crate::persona::Persona;
use crate::progress::Bar;
use crate::terminal;

pub(super) fn run(persona: Persona, restore: &Restore, work: &Path) -> Result<Done, Failure> {
    let mut options = RestoreOptions {
        work: Some(work.to_owned()),
        shell_job: restore.shell_job,
        sibling: restore.restore_sibling,
        pidfile: restore.pidfile.as_ref().map(|file| work.join(file)),
        leave_stopped: restore.leave_stopped,
        ..RestoreOptions::new(restore.images())
    };
    if restore.dry_run {
        let plan = engine::plan(&options)?;
        terminal::print(&plan.to_string()).map_err(Failure::Output)?;
        return Ok(Done::SUCCESS);
    }
    if restore.restore_detached || !restore.exec.is_empty() {
        let mut bar = Bar::new("restore");
        engine::restore(&mut options, &mut bar)?;
        bar.finish();
        if restore.display_stats {
            stats::print_restore(work)?;
        }
        return match restore.exec.split_first() {
            None => Ok(Done::SUCCESS),
            Some((command, arguments)) => Err(Failure::Exec {
                command: PathBuf::from(command),
                source: Command::new(command).args(arguments).exec(),
            }),
        };
    }

    let foreground = Foreground::begin(persona)?;
    let mut bar = Bar::new("restore");
    let restored = engine::restore(&mut options, &mut foreground.watch(&mut bar))?;
    bar.finish();
    if restore.display_stats {
        stats::print_restore(work)?;
    }
    foreground.wait(persona, restored.root)
}
