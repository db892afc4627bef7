//! `supported`: writes `docs/supported.md` from the registry of file kinds and the lists of what is
//! refused.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dormouse_resources::file::{self, SUPPORTED};
use dormouse_resources::memory::Obstacle;
use dormouse_resources::task;

const INTRODUCTION: &str = "\
# What a program that is dumped may have

Made by `cargo run -p xtask -- supported` from the registry of file kinds (`crates/resources/src/file/registry.rs`) and the
lists that the code refuses by. What of each kind of file is kept and what is not stands in the header of its room,
`crates/resources/src/file/KIND.rs`. What is refused is an error before anything is changed.

## Files that are supported

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
    let kinds = file::Refusal::ALL.iter().map(|it| [it.object(), it.reason(), it.hint()]);
    table(&mut text, "Files that are refused", ["kind", "why", "what to do"], kinds);
    let mappings = Obstacle::ALL.iter().map(|it| [it.reason(), it.hint().unwrap_or("")]);
    table(&mut text, "Mappings of memory that are refused", ["why", "what to do"], mappings);
    let states = task::Refusal::ALL.iter().map(|it| [it.object(), it.reason(), it.hint()]);
    let heading = "What is refused of tasks, of trees and of what they share";
    table(&mut text, heading, ["state", "why", "what to do"], states);
    text
}

fn table<const N: usize>(
    text: &mut String,
    heading: &str,
    titles: [&str; N],
    rows: impl Iterator<Item = [&'static str; N]>,
) {
    let _ = writeln!(text, "\n## {heading}\n\n| {} |\n|{}", titles.join(" | "), "---|".repeat(N));
    rows.for_each(|cells| text.push_str(&format!("| {} |\n", cells.join(" | "))));
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
