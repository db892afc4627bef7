//! What can go wrong with a command, and how the user is told.

use std::error::Error as _;
use std::fmt::{self, Write as _};
use std::io;
use std::path::PathBuf;

use dormouse_engine::{ErrorKind, Phase};
use dormouse_image::ImageError;
use dormouse_kernel::{FdNum, HostPid};
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};

use crate::args::Refusal;
use crate::demo::DemoError;

/// What the engine was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A dump.
    Dump,
    /// A restore.
    Restore,
    /// Writing down what processor this is.
    CpuDump,
    /// Comparing this processor with another.
    CpuCheck,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dump => "dump",
            Self::Restore => "restore",
            Self::CpuDump => "writing down the processor",
            Self::CpuCheck => "the check of the processor",
        })
    }
}

/// What is done with the work directory, and with the log.
pub(crate) const WORK_DIRECTORY: &str = "use the work directory";
pub(crate) const LOG_FILE: &str = "write the log file";

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The engine failed.
    #[error("{operation} failed: {source}")]
    Engine {
        /// At what.
        operation: Operation,
        /// How.
        source: dormouse_engine::Error,
    },
    /// Signals cannot be passed on.
    #[error("cannot receive signals")]
    Signals {
        /// Why not.
        source: io::Error,
    },
    /// A descriptor that was to be handed over is not open.
    #[error("cannot hand over descriptor {fd}")]
    Inherit {
        /// Its number.
        fd: FdNum,
        /// Why not.
        source: dormouse_kernel::pidfd::Error,
    },
    /// There is no process to do the work.
    #[error("cannot start a process for the work")]
    Worker {
        /// Why not.
        source: io::Error,
    },
    /// Something was asked for that does not exist yet.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// An image that the command itself reads.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The image directory is none.
    #[error("cannot use the image directory {}", path.display())]
    ImageDirectory {
        /// Its name.
        path: PathBuf,
        /// Whether images are to be written to it.
        writing: bool,
        /// Why not.
        source: io::Error,
    },
    /// A file or directory of the command's own.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// A verb.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The restored program cannot be waited for.
    #[error("cannot wait for the restored program, pid {pid}")]
    Wait {
        /// Its root.
        pid: HostPid,
        /// Why not.
        source: io::Error,
    },
    /// The command of `--exec-cmd` cannot be run.
    #[error("cannot run {}", command.display())]
    Exec {
        /// The command.
        command: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// `check` was asked for something nobody knows.
    #[error("unknown feature {0}")]
    UnknownFeature(String),
    /// The demo did not go well.
    #[error("the demo failed: {0}")]
    Demo(DemoError),
    /// A process of the demo's program failed.
    #[error("the demo's program failed")]
    DemoProgram(#[source] io::Error),
    /// Output could not be written.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        Self::Demo(error)
    }
}

impl Failure {
    /// Whose fault it is.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Engine { source, .. } => source.kind,
            Self::Refused(_) | Self::UnknownFeature(_) => ErrorKind::Unsupported,
            Self::Inherit { .. } => ErrorKind::Conflict,
            Self::File { source, .. }
            | Self::ImageDirectory { source, .. }
            | Self::Exec { source, .. }
            | Self::Image(ImageError::Io { source, .. }) => match source.kind() {
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Conflict,
            },
            Self::Image(ImageError::Version { .. }) => ErrorKind::Unsupported,
            Self::Image(
                ImageError::Corrupt { .. }
                | ImageError::Missing { .. }
                | ImageError::NoFile { .. }
                | ImageError::Incomplete { .. },
            ) => ErrorKind::CorruptImage,
            // Of writing, which no command does by itself.
            Self::Image(
                ImageError::Unfinished { .. }
                | ImageError::Twice { .. }
                | ImageError::TooBig { .. },
            ) => ErrorKind::Bug,
            Self::Demo(DemoError::Io { .. }) | Self::DemoProgram(_) => ErrorKind::Kernel,
            Self::Demo(_) => ErrorKind::Bug,
            Self::Wait { .. } | Self::Signals { .. } | Self::Worker { .. } | Self::Output(_) => {
                ErrorKind::Kernel
            }
        }
    }

    fn phase(&self) -> Option<Phase> {
        match self {
            Self::Engine { source, .. } => Some(source.phase),
            _ => None,
        }
    }

    fn task(&self) -> Option<HostPid> {
        match self {
            Self::Engine { source, .. } => source.task,
            Self::Wait { pid, .. } => Some(*pid),
            _ => None,
        }
    }

    fn fd(&self) -> Option<FdNum> {
        match self {
            Self::Engine { source, .. } => source.fd,
            _ => None,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Engine { source, .. } => source.hint,
            Self::Refused(Refusal::Option { .. } | Refusal::Value { .. }) => {
                Some("`dormouse help options` lists what is there")
            }
            Self::ImageDirectory { writing, source, .. } => match (writing, source.kind()) {
                (true, io::ErrorKind::NotFound) => Some("make the directory first (mkdir)"),
                (true, io::ErrorKind::NotADirectory) => {
                    Some("give the images a directory of their own (mkdir)")
                }
                (false, io::ErrorKind::NotFound) => {
                    Some("give the directory that a dump was made to")
                }
                (false, io::ErrorKind::NotADirectory) => {
                    Some("give the directory that the images are in")
                }
                _ => None,
            },
            Self::File { doing: WORK_DIRECTORY, source, .. }
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Some("make the directory first (mkdir)")
            }
            Self::File { doing: LOG_FILE, .. } => {
                Some("give another name for it with -o, or another directory with --work-dir")
            }
            _ => None,
        }
    }

    /// What it says without what is told apart from it: for an engine's error
    /// its own text, without phase, task and descriptor.
    fn headline(&self) -> String {
        match self {
            Self::Engine { operation, source } => format!("{operation} failed: {}", source.source),
            other => other.to_string(),
        }
    }

    /// The errors behind it, outermost first.
    fn causes(&self) -> Vec<String> {
        std::iter::successors(self.source_of_headline(), |&e| e.source())
            .map(ToString::to_string)
            .collect()
    }

    fn source_of_headline(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Engine { source, .. } => source.source(),
            other => other.source(),
        }
    }

    /// One line, for the log.
    pub(crate) fn line(&self) -> String {
        let mut line = self.to_string();
        for cause in self.causes() {
            // Writing to a string cannot fail.
            let _ = write!(line, ": {cause}");
        }
        line
    }

    /// For people who are not at a terminal: one fact a line.
    pub(crate) fn plain(&self) -> String {
        let mut out = format!("error: {}\n", self.headline());
        let mut fact = |name: &str, value: &dyn fmt::Display| {
            let _ = writeln!(out, "  {name:<6} {value}");
        };
        for cause in self.causes() {
            fact("cause:", &cause);
        }
        fact("kind:", &kind_name(self.kind()));
        if let Some(phase) = self.phase() {
            fact("phase:", &phase);
        }
        if let Some(pid) = self.task() {
            fact("pid:", &pid);
        }
        if let Some(fd) = self.fd() {
            fact("fd:", &fd);
        }
        if let Some(hint) = self.hint() {
            fact("hint:", &hint);
        }
        out
    }

    /// For a terminal.
    pub(crate) fn graphical(&self, colour: bool, width: usize) -> String {
        let theme =
            if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(width).with_links(false);
        let mut out = String::new();
        match handler.render_report(&mut out, &Report(self)) {
            Ok(()) => out,
            Err(fmt::Error) => self.plain(),
        }
    }
}

fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Denied => "denied",
        ErrorKind::Vanished => "vanished",
        ErrorKind::CorruptImage => "corrupt image",
        ErrorKind::Conflict => "conflict",
        ErrorKind::Kernel => "kernel",
        ErrorKind::Bug => "bug",
    }
}

/// A failure as miette draws it.
#[derive(Debug)]
struct Report<'a>(&'a Failure);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.headline())
    }
}

impl std::error::Error for Report<'_> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source_of_headline()
    }
}

impl Diagnostic for Report<'_> {
    /// Where and of which kind: all that is known of the place.
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let mut place = kind_name(self.0.kind()).to_owned();
        if let Some(phase) = self.0.phase() {
            let _ = write!(place, ", phase {phase}");
        }
        if let Some(pid) = self.0.task() {
            let _ = write!(place, ", pid {pid}");
        }
        if let Some(fd) = self.0.fd() {
            let _ = write!(place, ", fd {fd}");
        }
        Some(Box::new(place))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0.hint().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine() -> Failure {
        Failure::Engine {
            operation: Operation::Dump,
            source: dormouse_engine::Error {
                kind: ErrorKind::Unsupported,
                phase: Phase::Enumerate,
                task: HostPid::from_raw(1234),
                fd: Some(FdNum::from_raw(5)),
                hint: Some("close the socket first"),
                source: Box::new(Outer(io::Error::from_raw_os_error(libc::ENOSYS))),
            },
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("sockets cannot be saved yet")]
    struct Outer(#[source] io::Error);

    fn file() -> Failure {
        Failure::ImageDirectory {
            path: PathBuf::from("/no/such/place"),
            writing: true,
            source: io::Error::from_raw_os_error(libc::ENOENT),
        }
    }

    #[test]
    fn reports_say_all_there_is() {
        for (name, failure) in [("engine", engine()), ("file", file())] {
            let report = format!(
                "-- plain\n{}-- graphical\n{}-- log\n{}\n",
                failure.plain(),
                failure.graphical(false, 80),
                failure.line()
            );
            insta::assert_snapshot!(name, report);
        }
    }

    #[test]
    fn the_kind_follows_from_the_errno() {
        assert_eq!(file().kind(), ErrorKind::Conflict);
        let denied = Failure::Exec {
            command: "x".into(),
            source: io::Error::from_raw_os_error(libc::EACCES),
        };
        assert_eq!(denied.kind(), ErrorKind::Denied);
    }
}
