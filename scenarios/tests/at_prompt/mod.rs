//! Restores by somebody at a shell.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use dormouse_testkit::checkpointer::Checkpointer;
use dormouse_testkit::failure::Failure;
use dormouse_testkit::snapshot::Snapshot;
use dormouse_testkit::target::Target;

use super::new_images;

const SAID: &str = "second first one
second first two
second first three
second first four
of the program: True
status 7
";

/// A pipeline that was brought back in the foreground is suspended and continued as a whole, and has
/// the terminal again.
pub(super) fn suspended(
    target: &Target,
    _: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let images = new_images(dir, "at-prompt")?;
    let said = Command::new(env!("CARGO_BIN_EXE_dormouse-scenario"))
        .args(["--exec", "/usr/bin/timeout", "60", "python3", "-c", include_str!("prompt.py")])
        .arg(&checkpointer.program)
        .arg(&images)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Failure::Io { operation: "run", path: "python3".into(), source })?;
    match String::from_utf8_lossy(&said.stdout) {
        text if text == SAID => target.judge(Duration::ZERO),
        text => {
            let errors = String::from_utf8_lossy(&said.stderr);
            Err(Failure::Verdict(format!("at the prompt: {text:?}, {errors}")))
        }
    }
}
