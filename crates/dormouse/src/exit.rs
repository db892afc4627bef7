//! Exit codes.

use std::fmt::Write as _;
use std::process::ExitCode;

use dormouse_engine::ErrorKind;

use crate::persona::Persona;

/// How the program ends. The numbers are those of `sysexits.h`, which leave
/// small numbers to the restored program, whose status a `restore` in the
/// foreground hands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// All went well.
    Success = 0,
    /// `check`: something that is needed is missing.
    Missing = 1,
    /// The command line makes no sense.
    Usage = 64,
    /// See [`ErrorKind::CorruptImage`].
    CorruptImage = 65,
    /// See [`ErrorKind::Vanished`].
    Vanished = 66,
    /// See [`ErrorKind::Unsupported`].
    Unsupported = 69,
    /// See [`ErrorKind::Bug`].
    Bug = 70,
    /// See [`ErrorKind::Kernel`].
    Kernel = 71,
    /// See [`ErrorKind::Conflict`].
    Conflict = 75,
    /// See [`ErrorKind::Denied`].
    Denied = 77,
}

/// Each code with its meaning, as help and the man page print them.
pub(crate) const TABLE: &[(Exit, &str)] = &[
    (Exit::Success, "Success."),
    (Exit::Missing, "check: something that is needed is missing."),
    (Exit::Usage, "The command line or a configuration file makes no sense."),
    (Exit::CorruptImage, "An image is damaged, incomplete or contradicts another."),
    (Exit::Vanished, "A process or file that was there is gone or has changed."),
    (Exit::Unsupported, "The program's state, or an option, is not supported by this version."),
    (Exit::Bug, "A bug in dormouse."),
    (Exit::Kernel, "The kernel failed a call that should have worked."),
    (
        Exit::Conflict,
        "What was asked for does not fit the state of the system: a pid that is taken, a directory \
         that is missing.",
    ),
    (Exit::Denied, "The kernel refused for want of privileges."),
];

/// What the table does not say.
pub(crate) const NOTES: &str = "A restore in the foreground ends with the restored program's own \
    status; if a signal killed it, with 128 plus the signal's number. Called as criu, the status is \
    0 or 1, as CRIU's is, and a restore in the foreground ends with 0 whatever the program's was.";

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Unsupported => Self::Unsupported,
            ErrorKind::Denied => Self::Denied,
            ErrorKind::Vanished => Self::Vanished,
            ErrorKind::CorruptImage => Self::CorruptImage,
            ErrorKind::Conflict => Self::Conflict,
            ErrorKind::Kernel => Self::Kernel,
            ErrorKind::Bug => Self::Bug,
        }
    }
}

impl Exit {
    /// The code as the persona has it.
    pub(crate) fn code(self, persona: Persona) -> ExitCode {
        match (persona, self) {
            (Persona::Dormouse, exit) => ExitCode::from(exit as u8),
            (Persona::Criu, Self::Success) => ExitCode::SUCCESS,
            (Persona::Criu, _) => ExitCode::FAILURE,
        }
    }
}

/// The text of `help exit-codes`.
pub(crate) fn text() -> String {
    let mut out = String::from("Exit codes:\n\n");
    for (exit, meaning) in TABLE {
        let meaning = meaning.replace("\n", " ");
        // Writing to a string cannot fail.
        let _ = writeln!(out, "  {:>3}  {meaning}", *exit as u8);
    }
    let _ = writeln!(out, "\n{NOTES}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_leave_the_shells_alone() {
        let mut codes: Vec<u8> = TABLE.iter().map(|(exit, _)| *exit as u8).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), TABLE.len());
        assert!(codes.iter().all(|&c| c < 126), "126 and up are the shell's");
    }

    #[test]
    fn every_kind_of_error_is_in_the_table() {
        for kind in [
            ErrorKind::Unsupported,
            ErrorKind::Denied,
            ErrorKind::Vanished,
            ErrorKind::CorruptImage,
            ErrorKind::Conflict,
            ErrorKind::Kernel,
            ErrorKind::Bug,
        ] {
            assert!(TABLE.iter().any(|(exit, _)| *exit == Exit::from(kind)), "{kind:?}");
        }
    }
}
