//! Tests as libtest shows them, each in a pen of its own, with skips that are counted aloud.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};

use crate::action::logs;
use crate::binaries::Binaries;
use crate::failure::Failure;
use crate::pen;

/// One test, or one counted skip.
pub struct Case<'a> {
    /// Its name, with `::` between the parts.
    pub name: String,
    /// Why it is not run, if so.
    pub skip: Option<String>,
    /// The test itself.
    pub run: Run<'a>,
}

/// A test, which is run in a pen, with a directory for its files.
pub type Run<'a> = Box<dyn Fn(&Path) -> Result<(), Failure> + 'a>;

/// State the engine does not know yet: the tests' word for it, or `*` for all of them, and
/// the reason to show. `DORMOUSE_TRY=1` runs them all the same.
pub type Lacks<'a> = &'a [(&'a str, &'a str)];

/// How long a test may take, unless the environment has more patience: `DORMOUSE_LIMIT`, in seconds.
const LIMIT: u64 = 240;

pub(crate) fn limit() -> Duration {
    let asked = env::var("DORMOUSE_LIMIT").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(asked.unwrap_or(LIMIT))
}

/// Why a test of this name, made of these kinds of state, cannot pass with the checkpointer under
/// test. What is lacking is named as a kind of state, or, with `::` in it, as a part of the names
/// of tests.
#[must_use]
pub fn lacking(name: &str, needs: &[impl AsRef<str>], lacks: Lacks<'_>) -> Option<String> {
    if env::var_os("DORMOUSE_TRY").is_some() {
        return None;
    }
    let is_lacking = |what: &str| match what {
        part if part.contains("::") => name.contains(part),
        state => state == "*" || needs.iter().any(|need| need.as_ref() == state),
    };
    let lacking = lacks.iter().find(|(what, _)| is_lacking(what));
    lacking.map(|(state, reason)| format!("{state}: {reason}"))
}

/// Why no test with the checkpointer under test can be run, or this one cannot.
#[must_use]
pub fn skip(
    name: &str,
    needs: &[impl AsRef<str>],
    binaries: &Binaries,
    lacks: Lacks<'_>,
) -> Option<String> {
    match &binaries.under_test {
        Err(missing) => Some(missing.to_string()),
        Ok(checkpointer) if checkpointer.name == "criu" => None,
        Ok(_) => lacking(name, needs, lacks),
    }
}

/// Why no test at all can be run, or only undisturbed ones.
#[must_use]
pub fn skip_all() -> Option<String> {
    let root = rustix::process::geteuid().is_root();
    (!root).then(|| "not root: no pid namespace can be made".into())
}

/// The name of the only test that the arguments ask for, if it is one of a [`Case`].
pub(crate) fn only_one() -> Option<String> {
    let arguments = Arguments::from_args();
    arguments.filter.filter(|name| arguments.exact && name != SKIPS)
}

/// The name of the test that tells what is skipped.
const SKIPS: &str = "skips";

/// The `main` of a test executable: runs what the arguments ask for, or, inside a pen, the one
/// test the pen was made for.
///
/// Skipped cases are shown as ignored; the test `skips` prints them all with their reasons and
/// their number.
#[must_use]
pub fn main(cases: &[Case<'_>]) -> ExitCode {
    if let Some(inside) = pen::inside() {
        return in_pen(&inside, cases);
    }
    let summary = summary(cases);
    let mut trials: Vec<Trial> = cases
        .iter()
        .map(|case| {
            let name = case.name.clone();
            let run = move || pen::run(&name, limit()).map_err(|e| e.to_string().into());
            Trial::test(case.name.clone(), run).with_ignored_flag(case.skip.is_some())
        })
        .collect();
    trials.push(Trial::test(SKIPS, move || {
        println!("{summary}");
        Ok(())
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Runs the one test a pen was made for.
pub(crate) fn in_pen(inside: &pen::Inside, cases: &[Case<'_>]) -> ExitCode {
    let Some(case) = cases.iter().find(|c| c.name == inside.test) else {
        eprintln!("no test {:?}", inside.test);
        return ExitCode::FAILURE;
    };
    if let Some(reason) = &case.skip {
        eprintln!("cannot run: {reason}");
        return ExitCode::FAILURE;
    }
    match (case.run)(&inside.dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            eprint!("{}", logs(&inside.dir));
            ExitCode::FAILURE
        }
    }
}

/// What is skipped and why, one reason a line, and the counts.
fn summary(cases: &[Case<'_>]) -> String {
    let mut reasons = BTreeMap::<&str, Vec<&str>>::new();
    for case in cases {
        if let Some(reason) = &case.skip {
            reasons.entry(reason).or_default().push(&case.name);
        }
    }
    let skipped: usize = reasons.values().map(Vec::len).sum();
    let mut text = format!("{skipped} of {} tests are skipped", cases.len());
    for (reason, names) in reasons {
        let more = if names.len() > 4 { ", ..." } else { "" };
        let some = names[..names.len().min(4)].join(", ");
        text.push_str(&format!("\n  {:5}  {reason} ({some}{more})", names.len()));
    }
    if env::var_os("CHECKPOINTER").is_some_and(|c| c == "criu") {
        text.push_str("\nunder test: CRIU, not dormouse");
    }
    text
}
