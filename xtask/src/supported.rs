//! `supported`: writes `docs/supported.md` from the registry of file kinds.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dormouse_resources::file::{Refusal, SUPPORTED};

const INTRODUCTION: &str = "\
# What can be open in a program that is dumped

Made by `cargo run -p xtask -- supported` from the registry of file kinds (`crates/resources/src/file/registry.rs`). What
of each kind is kept and what is not stands in the header of its room, `crates/resources/src/file/KIND.rs`. A kind that is
refused is an error before anything is changed.

## Supported

";

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/supported.md")
}

fn text() -> String {
    let mut text = INTRODUCTION.to_owned();
    // Writing to a string cannot fail.
    for kind in SUPPORTED {
        let _ = writeln!(text, "* {}", kind.name);
    }
    text.push_str("\n## Refused\n\n| kind | why | what to do |\n|---|---|---|\n");
    for refusal in Refusal::ALL {
        let (object, reason, hint) = (refusal.object(), refusal.reason(), refusal.hint());
        let _ = writeln!(text, "| {object} | {reason} | {hint} |");
    }
    text
}

/// Writes the page.
pub(crate) fn run() -> io::Result<ExitCode> {
    fs::write(path(), text())?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_is_up_to_date() {
        let page = std::fs::read_to_string(super::path()).unwrap_or_default();
        assert_eq!(page, super::text(), "run `cargo run -p xtask -- supported`");
    }
}
