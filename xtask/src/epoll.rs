//! `epoll`: writes the table of scenarios in `docs/epoll.md`.

use std::fs;
use std::io;
use std::process::ExitCode;

use dormouse_testkit::interop::{self, Beside, InteropError};

use crate::interop::{scenario, workspace, write};

const BEGIN: &str = "<!-- Written by `cargo run -p xtask -- epoll --criu PATH`. -->\n";
const END: &str = "<!-- End of what is written. -->\n";

/// Why there is no table.
#[derive(thiserror::Error, Debug)]
pub(crate) enum EpollError {
    #[error(transparent)]
    Interop(#[from] InteropError),
    #[error("cannot read or write docs/epoll.md")]
    Document(#[from] io::Error),
    #[error("docs/epoll.md has no place for the table")]
    NoPlace,
}

pub(crate) fn run(args: &[&str]) -> io::Result<ExitCode> {
    write("epoll-table", args)
}

/// Runs all scenarios, and puts the table into its place.
pub(crate) fn table() -> Result<ExitCode, EpollError> {
    let path = workspace().join("docs/epoll.md");
    let text = fs::read_to_string(&path)?;
    let (before, rest) = text.split_once(BEGIN).ok_or(EpollError::NoPlace)?;
    let (_, after) = rest.split_once(END).ok_or(EpollError::NoPlace)?;
    let rows = interop::beside(&scenario(), "epoll::")?;
    fs::write(path, format!("{before}{BEGIN}\n{}\n{END}{after}", markdown(&rows)?))?;
    Ok(ExitCode::SUCCESS)
}

fn markdown(rows: &[Beside]) -> io::Result<String> {
    let failed =
        |by: fn(&Beside) -> &Option<String>| rows.iter().filter(|row| by(row).is_some()).count();
    let (ours, theirs) = (failed(|row| &row.dormouse), failed(|row| &row.criu));
    let mut text = format!(
        "Of {} scenarios dormouse fails {ours} and CRIU {theirs}.\n\n\
         | scenario | | dormouse | CRIU |\n|---|---|---|---|\n",
        rows.len()
    );
    for row in rows {
        let name = row.name.strip_prefix("epoll::").unwrap_or(&row.name);
        let cells = match &row.missing {
            Some(reason) => [reason.clone(), reason.clone()],
            None => [&row.dormouse, &row.criu].map(|wrong| {
                wrong.as_ref().map_or("yes".to_owned(), |said| format!("**no**: {said}"))
            }),
        };
        text.push_str(&format!("| `{name}` | {} | {} |\n", about(name)?, cells.join(" | ")));
    }
    Ok(text)
}

/// What a scenario is about: the first paragraph of its header.
fn about(name: &str) -> io::Result<String> {
    let text = fs::read_to_string(workspace().join(format!("scenarios/src/epoll/{name}.rs")))?;
    let header = text.lines().map_while(|line| line.strip_prefix("//!"));
    let paragraph: Vec<_> = header.map(str::trim).take_while(|line| !line.is_empty()).collect();
    Ok(paragraph.join(" ").replace('|', "/"))
}
