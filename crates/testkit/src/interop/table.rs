//! The table: who restores whose images, scenario by scenario.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write;

use crate::action::Action;

const YES: &str = "yes";
const OF_CRIU: &str = "CRIU";
const NO: &str = "**no**";
const MISSING: &str = "-";
/// What the heading of those that were not tried begins with.
const NOT_TRIED: &str = "Not tried";
/// What a line of the head begins with that names versions.
const BY: &str = "* by ";

/// The whole page.
pub(super) struct Table {
    /// The versions that rows are of, each as one text.
    pub(super) versions: BTreeSet<String>,
    pub(super) rows: Vec<Row<4>>,
}

/// One square, or some corners of it: what came of each.
pub(super) struct Row<const N: usize> {
    pub(super) name: String,
    pub(super) missing: Option<String>,
    pub(super) corners: [Corner; N],
}

/// What came of a scenario in one corner, with what was said.
pub(super) enum Corner {
    /// All was as before.
    Same,
    /// CRIU's own failure: the same state is lost with CRIU alone.
    OfCriu(String),
    /// Not so.
    Failed(String),
}

impl Corner {
    pub(super) fn said(&self) -> Option<&str> {
        match self {
            Self::Same => None,
            Self::OfCriu(said) | Self::Failed(said) => Some(said),
        }
    }
}

pub(super) fn line<const N: usize>(row: &Row<N>) -> String {
    let cells = row.corners.each_ref().map(|corner| match (&row.missing, corner) {
        (Some(_), _) => MISSING,
        (None, Corner::Same) => YES,
        (None, Corner::OfCriu(_)) => OF_CRIU,
        (None, Corner::Failed(_)) => NO,
    });
    format!("| {} | {} |\n", row.name, cells.join(" | "))
}

pub(super) fn write(Table { versions, rows }: &Table) -> String {
    let titles = Action::SQUARE.map(|action| match action {
        Action::Interop(dump, restore) => format!("{dump} → {restore}"),
        other => other.to_string(),
    });
    let mut text = String::from(
        "# Images of one, restored by the other\n\n\
         Written by `cargo run -p xtask -- interop`. Each scenario is dumped by the first and restored by the \
         second. \"yes\" means that the scenario found every detail of its state as it was, and that all that \
         `/proc` and `kcmp` tell of the tree was the same. \"CRIU\" means that it was not so, and that CRIU \
         alone loses that state too; \"**no**\" is dormouse's failure. \"-\" means that it was not tried: the \
         scenario found that this machine or kernel has not got what it takes; why stands below the table. \
         Scenarios of what dormouse refuses have no row.\n\nRows were written\n\n",
    );
    versions.iter().for_each(|versions| text.push_str(&format!("{BY}{versions}\n")));
    // Writing to a string does not fail.
    let _ = writeln!(text, "\n| scenario | {} |\n|---|---|---|---|---|", titles.join(" | "));
    rows.iter().for_each(|row| text.push_str(&line(row)));
    let missing = || rows.iter().filter_map(|row| Some((row, row.missing.as_deref()?)));
    let _ = writeln!(text, "\n## {NOT_TRIED}: {} of {}\n", missing().count(), rows.len());
    for (row, reason) in missing() {
        let _ = writeln!(text, "- {}: {reason}", row.name);
    }
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

/// What stands beside each name in a list.
fn list(part: &str) -> BTreeMap<&str, &str> {
    part.lines().filter_map(|line| line.strip_prefix("- ")?.split_once(": ")).collect()
}

/// The table that [`write`] has made. What is no row of its is passed over.
pub(super) fn read(text: &str) -> Table {
    let mut parts = text.split("\n## ");
    let head = parts.next().unwrap_or_default();
    let (reasons, said): (Vec<&str>, Vec<&str>) = parts.partition(|it| it.starts_with(NOT_TRIED));
    let reasons: BTreeMap<_, _> = reasons.into_iter().flat_map(list).collect();
    let said: Vec<_> = said.into_iter().map(list).collect();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
        let name = cells.next()?;
        let cells: [&str; 4] = cells.collect::<Vec<_>>().try_into().ok()?;
        let mut corners = [const { Corner::Same }; 4];
        for (index, (corner, cell)) in corners.iter_mut().zip(cells).enumerate() {
            let said = said.get(index).and_then(|said| said.get(name).copied());
            *corner = match cell {
                YES | MISSING => Corner::Same,
                OF_CRIU => Corner::OfCriu(said?.to_owned()),
                NO => Corner::Failed(said?.to_owned()),
                _ => return None,
            };
        }
        let reason = || reasons.get(name).copied().unwrap_or_default().to_owned();
        let missing = (cells == [MISSING; 4]).then(reason);
        Some(Row { name: name.to_owned(), missing, corners })
    };
    let versions = head.lines().filter_map(|line| line.strip_prefix(BY)).map(str::to_owned);
    Table { versions: versions.collect(), rows: head.lines().filter_map(row).collect() }
}

/// The first lines of a failure, without what differs from run to run.
pub(super) fn summary(said: &str) -> String {
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
    use super::{read, write};

    /// Rows that are not tried again stay as they are; and nobody has written one by hand.
    #[test]
    fn what_is_read_is_written_again() {
        let text = include_str!("../../../../docs/interop.md");
        let table = read(text);
        assert!(table.rows.iter().any(|row| row.missing.is_none()));
        assert!(!table.versions.is_empty());
        assert!(table.rows.iter().all(|row| row.missing.as_deref() != Some("")));
        let written = write(&table);
        for (line, written) in text.lines().zip(written.lines()) {
            assert_eq!(line, written);
        }
        assert_eq!(text.len(), written.len());
    }
}
