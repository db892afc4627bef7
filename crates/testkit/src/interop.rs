//! The interop square as a table: who restores whose images, scenario by scenario.

use std::collections::VecDeque;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::{env, fs, thread};

use crate::action::Action;
use crate::binaries::Binaries;
use crate::cases::{Case, LIMIT, in_pen};
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

/// One square, or some corners of it: what came of each.
struct Row<const N: usize> {
    name: String,
    missing: Option<String>,
    corners: [Corner; N],
}

/// What came of a scenario in one corner, with what was said.
enum Corner {
    /// All was as before.
    Same,
    /// CRIU's own failure: the same state is lost with CRIU alone.
    OfCriu(String),
    /// Not so.
    Failed(String),
}

/// The `main` of a program that writes the table to `out`; it is run again inside each pen.
///
/// # Errors
/// A checkpointer is missing, or the file cannot be written. A corner that fails is no error.
pub fn main(scenario: &Path, out: &Path) -> Result<ExitCode, InteropError> {
    let binaries = Binaries::find(scenario);
    let squares = squares(Facts::list(scenario)?);
    if let Some(inside) = pen::inside() {
        let corners = squares.iter().flatten();
        return Ok(in_pen(
            &inside,
            &corners.map(|c| c.bare_case(&binaries)).collect::<Vec<Case<'_>>>(),
        ));
    }
    binaries.dormouse?;
    binaries.criu?;
    let rows = run(squares);
    fs::write(out, table(&rows)).map_err(io_failure("write", out))?;
    Ok(ExitCode::SUCCESS)
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
    let mut squares = squares(Facts::list(scenario)?);
    squares.retain(|square| square[0].subject.facts.name.starts_with(subject));
    let alone = |[dormouse, _, _, criu]: [Combination; 4]| [dormouse, criu];
    let rows = run(squares.into_iter().map(alone).collect());
    let short = |corner: &Corner| corner.said().map(summary);
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
                    eprintln!("{}", line(&row).trim_end());
                    done.lock().unwrap_or_else(|e| e.into_inner()).push(row);
                }
            });
        }
    });
    let mut rows = done.into_inner().unwrap_or_else(|e| e.into_inner());
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

impl Corner {
    fn said(&self) -> Option<&str> {
        match self {
            Self::Same => None,
            Self::OfCriu(said) | Self::Failed(said) => Some(said),
        }
    }
}

fn row<const N: usize>(square: &[Combination; N]) -> Row<N> {
    let facts = &square[0].subject.facts;
    let said = square.each_ref().map(|combination| {
        let result = match &facts.missing {
            Some(_) => Ok(()),
            None => pen::run(&combination.name(), LIMIT),
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

fn line<const N: usize>(row: &Row<N>) -> String {
    let cells = row.corners.each_ref().map(|corner| match (&row.missing, corner) {
        (Some(_), _) => "-",
        (None, Corner::Same) => "yes",
        (None, Corner::OfCriu(_)) => "CRIU",
        (None, Corner::Failed(_)) => "**no**",
    });
    format!("| {} | {} |\n", row.name, cells.join(" | "))
}

fn table(rows: &[Row<4>]) -> String {
    let titles = Action::SQUARE.map(|action| match action {
        Action::Interop(dump, restore) => format!("{dump} → {restore}"),
        other => other.to_string(),
    });
    let mut text = String::from(
        "# Images of one, restored by the other\n\n\
         Written by `cargo run -p xtask -- interop`. Each scenario is dumped by the first and restored by the \
         second. \"yes\" means that the scenario found every detail of its state as it was, and that all that \
         `/proc` and `kcmp` tell of the tree was the same. \"CRIU\" means that it was not so, and that CRIU \
         alone loses that state too; \"**no**\" is dormouse's failure.\n\n",
    );
    // Writing to a string does not fail.
    let _ = writeln!(text, "| scenario | {} |\n|---|---|---|---|---|", titles.join(" | "));
    rows.iter().for_each(|row| text.push_str(&line(row)));
    for (index, title) in titles.iter().enumerate() {
        let failed: Vec<(&Row<4>, &str)> =
            rows.iter().filter_map(|row| Some((row, row.corners[index].said()?))).collect();
        let _ = writeln!(text, "\n## {title}: {} of {} fail\n", failed.len(), rows.len());
        for (row, said) in failed {
            let _ = writeln!(text, "- {}: {}", row.name, summary(said));
        }
    }
    text
}

/// The first lines of a failure, without what differs from run to run.
fn summary(said: &str) -> String {
    let lines = said.lines().take_while(|l| !l.starts_with("---")).filter(|l| !l.trim().is_empty());
    let text: Vec<&str> = lines.take(2).map(str::trim).collect();
    let dir = env::temp_dir();
    let text = text.join(" ").replace(&*dir.to_string_lossy(), "TMP").replace('|', "/");
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
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
