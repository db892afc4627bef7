//! `guest`: runs scenarios on another kernel, see `dormouse_testkit::guest`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use dormouse_testkit::guest::{GuestError, Kernel};

use crate::interop::workspace;

/// Why it cannot be done.
#[derive(thiserror::Error, Debug)]
pub(crate) enum Error {
    /// There is no such kernel, or it cannot be booted.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// A program cannot be run.
    #[error("cannot run {0}: {1}")]
    Run(&'static str, std::io::Error),
    /// The tests do not build.
    #[error("no test executable was built")]
    NotBuilt,
}

/// Boots the kernel unpacked in `kernel` and has it run the tests whose names contain `filter`. What
/// they say goes to the standard output.
pub(crate) fn run(kernel: &str, filter: &str) -> Result<ExitCode, Error> {
    let kernel = Kernel::find(Path::new(kernel))?;
    let suite = suite()?;
    let script = format!("{} --color never {filter}\n", suite.display());
    let dir = workspace().join("target/guest");
    // What is left of the last time.
    let _ = std::fs::remove_dir_all(&dir);
    let target = suite.ancestors().nth(2).unwrap_or(&suite);
    let status = kernel.boot(&script, target, &dir)?.status();
    status.map_err(|error| Error::Run("qemu-system-x86_64", error))?;
    Ok(ExitCode::SUCCESS)
}

/// Builds the tests; gives their executable.
fn suite() -> Result<PathBuf, Error> {
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["test", "--no-run", "--message-format=json"])
        .args(["-p", "dormouse", "-p", "dormouse-scenarios", "--test", "scenarios"])
        .args(["--bin", "dormouse", "--bin", "dormouse-scenario"])
        .current_dir(workspace())
        .stderr(Stdio::inherit());
    let built = build.output().map_err(|error| Error::Run("cargo", error))?;
    let said = String::from_utf8_lossy(&built.stdout).into_owned();
    said.split("\"executable\":\"")
        .filter_map(|rest| rest.split('"').next())
        .find(|path| path.contains("/deps/scenarios-"))
        .map(PathBuf::from)
        .ok_or(Error::NotBuilt)
}
