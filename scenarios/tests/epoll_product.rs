//! Every kind of file, times every state of an item, times everything that can become of its key, times
//! dump and restore, or a dump that leaves the program running: what an undisturbed twin finds must be
//! found.
//!
//! `EPOLL_PRODUCT="pipe"` tries only those combinations whose name has this in it.

mod worlds;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use dormouse_testkit::binaries::Binaries;
use dormouse_testkit::cases::{self, Case};
use dormouse_testkit::checkpointer::Checkpointer;
use dormouse_testkit::failure::{Failure, io_failure};

/// What the checkpointer is told.
const OPTIONS: &[&str] = &["--tcp-established", "--network-lock=nftables"];

/// How many failures are shown.
const SHOWN: usize = 12;

fn main() -> ExitCode {
    let scenario = Path::new(env!("CARGO_BIN_EXE_dormouse-scenario"));
    let binaries = Binaries::find(scenario);
    let cannot_read = || epoll_interest::Inspector::new().err().map(|error| error.to_string());
    let skip = cases::skip_all()
        .or_else(|| cases::skip("epoll_product", &[] as &[&str], &binaries, &[]))
        .or_else(cannot_read);
    let part = std::env::var("EPOLL_PRODUCT").unwrap_or_default();
    let case = |key: &'static str| {
        let (binaries, part) = (&binaries, &part);
        let run = move |dir: &Path| match &binaries.under_test {
            Ok(checkpointer) => try_all(scenario, checkpointer, dir, &format!("{key}\n{part}")),
            Err(missing) => Err(Failure::Verdict(missing.to_string())),
        };
        Case { name: format!("epoll_product::{key}"), skip: skip.clone(), run: Box::new(run) }
    };
    cases::main(&dormouse_scenarios::product::keys().map(case))
}

fn try_all(
    scenario: &Path,
    checkpointer: &Checkpointer,
    dir: &Path,
    text: &str,
) -> Result<(), Failure> {
    let program = (scenario, "--product");
    let expected = worlds::undisturbed(program, &dir.join("undisturbed"), text)?;
    let ways = [("restored", worlds::restored as Way), ("left running", worlds::left_running)];
    let mut problems = String::new();
    for (name, way) in ways {
        let dir = dir.join(name);
        let found = way(program, checkpointer, &dir, text, OPTIONS);
        worlds::end_all();
        let found = found?;
        fs::remove_dir_all(&dir).map_err(io_failure("remove", &dir))?;
        compare(name, &expected, &found, &mut problems);
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::Verdict(problems)) }
}

type Way = fn((&Path, &str), &Checkpointer, &Path, &str, &[&str]) -> Result<String, Failure>;

/// Lines are combinations, in the same order.
fn compare(way: &str, expected: &str, found: &str, problems: &mut String) {
    let mut different = expected.lines().zip(found.lines()).filter(|(was, is)| was != is);
    let shown: Vec<_> = different.by_ref().take(SHOWN).collect();
    for (was, is) in &shown {
        let _ = write!(problems, "{way}, it was\n  {was}\nand is\n  {is}\n");
    }
    let lines = [expected, found].map(|text| text.lines().count());
    if lines[0] != lines[1] || lines[0] == 0 {
        let _ = writeln!(problems, "{way}: {} combinations, of {}", lines[1], lines[0]);
    }
    let more = different.count();
    if more > 0 {
        let _ = writeln!(problems, "{way}: and {more} more");
    }
}
