//! Why a test failed.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use crate::snapshot::Difference;

/// Why a test failed. The texts are for the person who reads the test's output.
#[derive(thiserror::Error, Debug)]
pub enum Failure {
    /// The harness could not do its own work.
    #[error("{operation} {path}: {source}")]
    Io {
        /// A verb.
        operation: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Something did not happen in time.
    #[error("{step}: not done after {limit:?}")]
    Late {
        /// What was waited for.
        step: &'static str,
        /// For how long.
        limit: Duration,
    },
    /// The scenario's root ended where it should have lived.
    #[error("{step}: the target ended ({status})")]
    Ended {
        /// What was waited for.
        step: &'static str,
        /// How it ended.
        status: String,
    },
    /// A command of the checkpointer should have succeeded.
    #[error("{command} failed ({status})")]
    Command {
        /// `NAME dump` or `NAME restore`.
        command: String,
        /// Its end.
        status: ExitStatus,
    },
    /// A command of the checkpointer should have failed.
    #[error("{command} succeeded where it had to fail: {why}")]
    Succeeded {
        /// `NAME dump` or `NAME restore`.
        command: String,
        /// Why it had to fail.
        why: &'static str,
    },
    /// A failing command did not say what it had to.
    #[error("{command} failed, rightly, but its messages do not name {missing:?}")]
    Silent {
        /// `NAME dump` or `NAME restore`.
        command: String,
        /// The words that are not there.
        missing: Vec<String>,
    },
    /// The tree is not what it was.
    #[error("{when}, the tree differs in {} places:\n{}", .differences.len(), list(.differences))]
    Differs {
        /// `after restore`, `after a killed dump`, ...
        when: &'static str,
        /// Every difference.
        differences: Vec<Difference>,
    },
    /// Processes are there which should be gone.
    #[error("{when}, processes are left: {}", .left.join(", "))]
    Left {
        /// `after dump`, ...
        when: &'static str,
        /// `PID (COMM) STATE` each.
        left: Vec<String>,
    },
    /// The scenario found something wrong.
    #[error("verdict:\n{0}")]
    Verdict(String),
}

fn list(differences: &[Difference]) -> String {
    const SHOWN: usize = 60;
    let mut text: String = differences.iter().take(SHOWN).map(|d| format!("  {d}\n")).collect();
    if differences.len() > SHOWN {
        text.push_str(&format!("  ... and {} more\n", differences.len() - SHOWN));
    }
    text
}

/// Attaches operation and path to an I/O error.
pub fn io_failure(
    operation: &'static str,
    path: impl AsRef<Path>,
) -> impl FnOnce(io::Error) -> Failure {
    let path = path.as_ref().to_owned();
    move |source| Failure::Io { operation, path, source }
}
