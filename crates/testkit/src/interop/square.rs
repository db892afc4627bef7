//! Runs the square, or one of its sides.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::{fs, io, thread};

use super::table::{self, Corner, Row, Table};

use crate::action::Action;
use crate::binaries::Binaries;
use crate::cases::{Case, in_pen, limit};
use crate::checkpointer::Checkpointer;
use crate::failure::{Failure, io_failure};
use crate::pen;
use crate::subject::{Facts, Subject};
use crate::suite::Combination;

/// Why no table was written.
#[derive(thiserror::Error, Debug)]
pub enum InteropError {
    /// A checkpointer is not there.
    #[error(transparent)]
    Missing(#[from] crate::binaries::Missing),
    /// The scenarios cannot be listed, or the table not be written.
    #[error(transparent)]
    Failure(#[from] Failure),
}

/// The `main` of a program that writes the table to `out`; it is run again inside each pen. Only
/// scenarios whose names contain `filter` are tried, and those that the table at `out` does not
/// have; the rows of others stay.
///
/// # Errors
/// A checkpointer is missing, or the file cannot be read or written. A corner that fails is no error.
pub fn main(scenario: &Path, out: &Path, filter: &str) -> Result<ExitCode, InteropError> {
    let binaries = Binaries::find(scenario);
    let mut squares = squares(Facts::list(scenario, None)?);
    if let Some(inside) = pen::inside() {
        let corners = squares.iter().flatten();
        return Ok(in_pen(
            &inside,
            &corners.map(|c| c.bare_case(&binaries)).collect::<Vec<Case<'_>>>(),
        ));
    }
    binaries.dormouse?;
    let versions = versions(&binaries.criu?)?;
    let Table { versions: mut all_versions, mut rows } = match fs::read_to_string(out) {
        Ok(text) if !filter.is_empty() => table::read(&text),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_failure("read", out)(error).into());
        }
        _ => Table { versions: BTreeSet::new(), rows: Vec::new() },
    };
    if !filter.is_empty() {
        let of = |row: &Row<4>, square: &[Combination; 4]| row.name == square[0].subject.facts.name;
        rows.retain(|row| {
            !row.name.contains(filter) && squares.iter().any(|square| of(row, square))
        });
        squares.retain(|square| !rows.iter().any(|row| of(row, square)));
    }
    rows.extend(run(squares));
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    all_versions.insert(versions);
    let table = Table { versions: all_versions, rows };
    fs::write(out, table::write(&table)).map_err(io_failure("write", out))?;
    Ok(ExitCode::SUCCESS)
}

/// What a row is of beside dormouse: `CRIU 4.2 on Linux 6.18`.
fn versions(criu: &Checkpointer) -> Result<String, Failure> {
    let said = Command::new(&criu.program).arg("--version").output();
    let said = said.map_err(io_failure("run", &criu.program))?.stdout;
    let said = String::from_utf8_lossy(&said);
    let version = said.lines().next().unwrap_or_default().trim_start_matches("Version: ").trim();
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    // Not what a builder has added of their own.
    let release = release.split('-').next().unwrap_or_default();
    Ok(format!("CRIU {version} on Linux {release}"))
}

/// A scenario that each checkpointer dumped and restored by itself.
pub struct Beside {
    /// The scenario's name.
    pub name: String,
    /// Why it was not tried.
    pub missing: Option<String>,
    /// What dormouse did wrong, if anything.
    pub dormouse: Option<String>,
    /// What CRIU did.
    pub criu: Option<String>,
}

/// Tries all scenarios of a subject with both, each by itself. The pens are those of [`main`].
///
/// # Errors
/// A checkpointer is missing.
pub fn beside(scenario: &Path, subject: &str) -> Result<Vec<Beside>, InteropError> {
    let binaries = Binaries::find(scenario);
    binaries.dormouse?;
    binaries.criu?;
    let mut squares = squares(Facts::list(scenario, None)?);
    squares.retain(|square| square[0].subject.facts.name.starts_with(subject));
    let alone = |[dormouse, _, _, criu]: [Combination; 4]| [dormouse, criu];
    let mut rows = run(squares.into_iter().map(alone).collect());
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let short = |corner: &Corner| corner.said().map(table::summary);
    let beside = |Row { name, missing, corners: [dormouse, criu] }: Row<2>| Beside {
        name,
        missing,
        dormouse: short(&dormouse),
        criu: short(&criu),
    };
    Ok(rows.into_iter().map(beside).collect())
}

/// The four combinations of each scenario that can be dumped, as its first user.
fn squares(scenarios: Vec<Facts>) -> Vec<[Combination; 4]> {
    let dumpable = scenarios.into_iter().filter(|f| f.refused.is_none());
    dumpable
        .map(|facts| {
            Action::SQUARE.map(|action| Combination {
                subject: Subject { user: facts.users[0], facts: facts.clone() },
                action,
            })
        })
        .collect()
}

/// Runs all, several at once.
fn run<const N: usize>(squares: Vec<[Combination; N]>) -> Vec<Row<N>> {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let queue: Mutex<VecDeque<[Combination; N]>> = Mutex::new(squares.into());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(|e| e.into_inner()).pop_front();
                    let Some(square) = next else { break };
                    let row = row(&square);
                    eprintln!("{}", table::line(&row).trim_end());
                    done.lock().unwrap_or_else(|e| e.into_inner()).push(row);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(|e| e.into_inner())
}

fn row<const N: usize>(square: &[Combination; N]) -> Row<N> {
    let facts = &square[0].subject.facts;
    let said = square.each_ref().map(|combination| {
        let result = match &facts.missing {
            Some(_) => Ok(()),
            None => pen::run(&combination.name(), limit()),
        };
        result.err().map(|e| e.to_string())
    });
    let criu_alone = square
        .iter()
        .zip(&said)
        .find(|(combination, _)| combination.action == Action::CRIU_ALONE)
        .and_then(|(_, said)| said.clone());
    let mut actions = square.iter().map(|combination| combination.action);
    let corners = said.map(|said| {
        let with_criu = actions.next() != Some(Action::SQUARE[0]);
        match said {
            None => Corner::Same,
            Some(said)
                if with_criu
                    && criu_alone.as_ref().is_some_and(|alone| is_of_criu(&said, alone)) =>
            {
                Corner::OfCriu(said)
            }
            Some(said) => Corner::Failed(said),
        }
    });
    Row { name: facts.name.clone(), missing: facts.missing.clone(), corners }
}

/// Is a failure CRIU's own, by what was said of it and of CRIU alone? A command of dormouse's that
/// fails is excused only where CRIU cannot restore its own images.
pub(crate) fn is_of_criu(said: &str, alone: &str) -> bool {
    fn first(said: &str) -> &str {
        // Before it, it may say what was not compared.
        said.lines().find(|line| !line.starts_with('(')).unwrap_or_default()
    }
    if !first(said).starts_with("dormouse ") {
        return true;
    }
    first(said).starts_with("dormouse restore failed")
        && first(alone).starts_with("criu restore failed")
}

#[cfg(test)]
mod tests {
    use super::is_of_criu;

    #[test]
    fn only_images_that_criu_cannot_restore_excuse_a_failed_restore() {
        let (differs, failed) = ("(not compared: x)\nverdict: y", "criu restore failed (1)");
        assert!(is_of_criu(differs, failed) && is_of_criu(differs, differs));
        assert!(is_of_criu("dormouse restore failed (65)", failed));
        assert!(!is_of_criu("dormouse restore failed (65)", differs));
        assert!(!is_of_criu("dormouse dump failed (65)", failed));
    }
}
