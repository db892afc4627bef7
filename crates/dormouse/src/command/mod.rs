//! The commands, one module each.

mod check;
mod completions;
mod cpuinfo;
mod dump;
mod engine;
mod foreground;
pub(crate) mod help;
mod man;
mod restore;
mod show;
mod stats;
mod worker;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tracing::{debug, error, info};

use crate::args::{Command, Directories, Output, WithoutEffect, Work};
use crate::exit::Exit;
use crate::failure::{Failure, LOG_FILE, Operation, WORK_DIRECTORY};
use crate::persona::Persona;
use crate::{demo, log, terminal};

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// As told by the table.
    Exit(Exit),
    /// With the status of the restored program.
    Program(u8),
    /// With this exit code; the user has been told why.
    Told(u8),
}

impl Done {
    pub(crate) const SUCCESS: Self = Self::Exit(Exit::Success);
}

/// Carries out a command, tells how it failed if it did, and gives the exit
/// code.
pub(crate) fn run(persona: Persona, work: Work) -> ExitCode {
    let result = match &work.command {
        Command::Dump(dump) => {
            let images = dump.images();
            logged(&images, &dump.directories, &dump.output, &work, |work| dump::run(dump, work))
        }
        Command::Restore(restore) => {
            let images = restore.images();
            logged(&images, &restore.directories, &restore.output, &work, |work| {
                restore::run(persona, restore, work)
            })
        }
        Command::Check(check) => {
            let images = check.directories.images(None);
            logged(&images, &check.directories, &check.output, &work, |_| {
                check::run(persona, check)
            })
        }
        Command::Show(show) => {
            let images = show.images();
            logged(&images, &show.directories, &show.output, &work, |_| show::run(show))
        }
        Command::Cpuinfo(cpuinfo) => {
            let images = cpuinfo.directories.images(None);
            logged(&images, &cpuinfo.directories, &cpuinfo.output, &work, |_| {
                cpuinfo::run(cpuinfo, &images)
            })
        }
        Command::Refused(refused) => {
            let images = refused.directories.images(None);
            logged(&images, &refused.directories, &refused.output, &work, |_| Ok(Done::SUCCESS))
        }
        Command::Demo(options) => unlogged(&work, || demo::run(options)),
        Command::Completions { shell } => unlogged(&work, || completions::run(persona, *shell)),
        Command::Man => unlogged(&work, || man::run(persona)),
        Command::DemoProgram { role } => unlogged(&work, || demo::run_program(*role)),
    };
    match result {
        Ok(Done::Exit(exit)) => exit.code(persona),
        // CRIU does not tell how the program ended.
        Ok(Done::Program(_)) if persona == Persona::Criu => Exit::Success.code(persona),
        Ok(Done::Program(code) | Done::Told(code)) => ExitCode::from(code),
        Err(failure) => fail(persona, &failure),
    }
}

/// Runs a command that keeps a log.
fn logged(
    images: &Path,
    directories: &Directories,
    output: &Output,
    work: &Work,
    run: impl FnOnce(&Path) -> Result<Done, Failure>,
) -> Result<Done, Failure> {
    let writing = matches!(work.command, Command::Dump(_));
    let images = directory(images).map_err(|source| {
        let path = images.to_owned();
        Failure::ImageDirectory { path, writing, source }
    })?;
    let work_dir = match &directories.work_dir {
        Some(work_dir) => directory(work_dir).map_err(|source| {
            let path = work_dir.clone();
            Failure::File { doing: WORK_DIRECTORY, path, source }
        })?,
        None => images,
    };
    let target = log::Target::of(output.log_file.as_deref(), &work_dir);
    log::start(&target, output.verbosity).map_err(|source| Failure::File {
        doing: LOG_FILE,
        path: match target {
            log::Target::File(path) => path,
            log::Target::Stdout | log::Target::Stderr => PathBuf::from("-"),
        },
        source,
    })?;
    info!("dormouse {}", env!("CARGO_PKG_VERSION"));
    for option in &work.without_effect {
        match option {
            WithoutEffect::NotForThisCommand(name) => {
                debug!("--{name} has no meaning for this command");
            }
            WithoutEffect::Concerns(name, state) => {
                debug!("--{name} concerns {state}, which are refused where they are met");
            }
            WithoutEffect::Method(name, way) => debug!("--{name} changes nothing: {way}"),
        }
    }
    let result = match &work.refusal {
        Some(refusal) => Err(refusal.clone().into()),
        None => run(&work_dir),
    };
    if let Err(failure) = &result {
        // On standard error the report says it all.
        if target_is_log(output) {
            error!("{}", failure.line());
            match failure {
                Failure::Engine { operation: Operation::Dump, .. } => error!("Dumping FAILED."),
                Failure::Engine { operation: Operation::Restore, .. } => {
                    error!("Restoring FAILED.");
                }
                _ => {}
            }
        }
    }
    result
}

/// Runs a command that keeps no log.
fn unlogged(work: &Work, run: impl FnOnce() -> Result<Done, Failure>) -> Result<Done, Failure> {
    match &work.refusal {
        Some(refusal) => Err(refusal.clone().into()),
        None => run(),
    }
}

fn target_is_log(output: &Output) -> bool {
    output.log_file.is_some()
}

/// The full name of a directory that must be there.
fn directory(path: &Path) -> io::Result<PathBuf> {
    let full = path.canonicalize()?;
    if full.is_dir() { Ok(full) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

/// Tells of a failure on standard error, and gives the exit code.
pub(crate) fn fail(persona: Persona, failure: &Failure) -> ExitCode {
    terminal::report(&match persona {
        Persona::Criu => format!("Error (dormouse): {}\n", failure.line()),
        Persona::Dormouse if io::stderr().is_terminal() => {
            failure.graphical(terminal::stderr_has_colour(), terminal::stderr_width())
        }
        Persona::Dormouse => failure.plain(),
    });
    Exit::from(failure.kind()).code(persona)
}
