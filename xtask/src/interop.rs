//! `interop`: writes `docs/interop.md`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use dormouse_testkit::interop::{self, InteropError};

pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn run(args: &[&str]) -> std::io::Result<ExitCode> {
    write("interop-table", args)
}

/// Builds what is tried, and has a table written by another process of this program: the testkit
/// finds CRIU by `CRIU_BIN`, here and in its pens. What is not an option is for that process.
pub(crate) fn write(command: &str, args: &[&str]) -> std::io::Result<ExitCode> {
    let mut table = Command::new(env::current_exe()?);
    table.arg(command);
    let rest = match args {
        ["--criu", path, rest @ ..] => {
            table.env("CRIU_BIN", path);
            rest
        }
        rest => rest,
    };
    if rest.iter().any(|word| word.starts_with('-')) {
        return Ok(crate::usage());
    }
    table.args(rest);
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "-p", "dormouse", "-p", "dormouse-scenarios"]).current_dir(workspace());
    let done = build.status()?.success() && table.status()?.success();
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the square of all scenarios whose names contain `filter`, and writes the table; or, inside a
/// pen, runs one corner for one scenario.
pub(crate) fn table(filter: &str) -> Result<ExitCode, InteropError> {
    interop::main(&scenario(), &workspace().join("docs/interop.md"), filter)
}

/// Cargo puts all binaries into one directory.
pub(crate) fn scenario() -> PathBuf {
    env::current_exe().unwrap_or_default().with_file_name("dormouse-scenario")
}
