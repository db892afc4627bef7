//! Every combination of subject and action as one test, or as one counted skip.

use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};

use crate::action::{Action, logs};
use crate::binaries::Binaries;
use crate::pen;
use crate::subject::{Facts, Subject, User};

/// A subject, an action, and why the two are not run together, if so.
pub struct Combination {
    /// Who.
    pub subject: Subject,
    /// What.
    pub action: Action,
    /// Why not.
    pub skip: Option<String>,
}

/// State the engine does not know yet: the scenarios' word for it, or `*` for all scenarios, and
/// the reason to show. `DORMOUSE_TRY=1` runs them all the same.
pub type Lacks<'a> = &'a [(&'a str, &'a str)];

/// Longer than any test takes on a loaded machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(240);

/// The actions that make sense for these facts and user, in order.
fn actions(facts: &Facts, user: User) -> Vec<Action> {
    if facts.refused.is_some() {
        return vec![Action::None, Action::Refused];
    }
    let mut list = vec![Action::None, Action::DumpRestore];
    // How often a dump is done, and by whom, has little to do with who runs the target.
    if user == facts.users[0] {
        list.extend([Action::LeaveRunning, Action::Twice]);
        // The first corner is what `DumpRestore` does.
        list.extend(&Action::SQUARE[1..]);
        if facts.faults {
            list.extend([
                Action::KilledDump,
                Action::KilledRestore,
                Action::FailedDump,
                Action::PidTaken,
            ]);
        }
    }
    list
}

/// All combinations.
#[must_use]
pub fn combinations(
    scenarios: &[Facts],
    binaries: &Binaries,
    lacks: Lacks<'_>,
) -> Vec<Combination> {
    let mut list = Vec::new();
    for facts in scenarios {
        for &user in &facts.users {
            for action in actions(facts, user) {
                let subject = Subject { facts: facts.clone(), user };
                let skip = skip(&subject, action, binaries, lacks);
                list.push(Combination { subject, action, skip });
            }
        }
    }
    list
}

fn skip(
    subject: &Subject,
    action: Action,
    binaries: &Binaries,
    lacks: Lacks<'_>,
) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root: no pid namespace can be made".into());
    }
    if let Some(missing) = &subject.facts.missing {
        return Some(missing.clone());
    }
    if action == Action::None {
        return None;
    }
    if let Action::Interop(..) = action {
        if let Err(missing) = &binaries.criu {
            return Some(missing.to_string());
        }
        if let Err(missing) = &binaries.dormouse {
            return Some(missing.to_string());
        }
    }
    match &binaries.under_test {
        Err(missing) => return Some(missing.to_string()),
        Ok(c) if c.name == "criu" => return None,
        Ok(_) if env::var_os("DORMOUSE_TRY").is_some() => return None,
        Ok(_) => {}
    }
    let lacking = lacks
        .iter()
        .find(|(state, _)| *state == "*" || subject.facts.needs.iter().any(|n| n == state));
    lacking.map(|(state, reason)| format!("{state}: {reason}"))
}

impl Combination {
    /// The test's name: `subject::scenario::user::action`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}::{}", self.subject, self.action)
    }
}

/// The `main` of a test executable: runs what the arguments ask for, or, inside a pen, the one
/// test the pen was made for.
///
/// Skipped combinations are shown as ignored; the test `skips` prints them all with their reasons
/// and their number.
#[must_use]
pub fn main(scenario: &Path, lacks: Lacks<'_>) -> ExitCode {
    let binaries = Binaries::find(scenario);
    let facts = match Facts::list(scenario) {
        Ok(facts) => facts,
        Err(failure) => {
            eprintln!("{failure}");
            return ExitCode::FAILURE;
        }
    };
    let all = combinations(&facts, &binaries, lacks);
    if let Some(inside) = pen::inside() {
        return in_pen(&inside, &all, &binaries);
    }
    let summary = summary(&all);
    // Inside nextest each test has a process of its own and must not carry filters on.
    let mut trials: Vec<Trial> = all
        .iter()
        .map(|c| {
            let name = c.name();
            let run = move || pen::run(&name, LIMIT).map_err(|e| e.to_string().into());
            Trial::test(c.name(), run).with_ignored_flag(c.skip.is_some())
        })
        .collect();
    trials.push(Trial::test("skips", move || {
        println!("{summary}");
        Ok(())
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Runs the one test a pen was made for.
pub(crate) fn in_pen(inside: &pen::Inside, all: &[Combination], binaries: &Binaries) -> ExitCode {
    let Some(combination) = all.iter().find(|c| c.name() == inside.test) else {
        eprintln!("no test {:?}", inside.test);
        return ExitCode::FAILURE;
    };
    if let Some(reason) = &combination.skip {
        eprintln!("cannot run: {reason}");
        return ExitCode::FAILURE;
    }
    match combination.action.run(&combination.subject, binaries, &inside.dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            for (keys, reason) in &combination.subject.facts.differs {
                eprintln!("(not compared: {keys}, because {reason})");
            }
            eprint!("{}", logs(&inside.dir));
            ExitCode::FAILURE
        }
    }
}

/// What is skipped and why, one reason a line, and the counts.
fn summary(all: &[Combination]) -> String {
    let mut reasons = std::collections::BTreeMap::<&str, Vec<String>>::new();
    for combination in all {
        if let Some(reason) = &combination.skip {
            reasons.entry(reason).or_default().push(combination.name());
        }
    }
    let skipped: usize = reasons.values().map(Vec::len).sum();
    let mut text = format!("{skipped} of {} combinations are skipped", all.len());
    for (reason, names) in reasons {
        let more = if names.len() > 4 { ", ..." } else { "" };
        let some: Vec<&str> = names.iter().take(4).map(String::as_str).collect();
        text.push_str(&format!("\n  {:5}  {reason} ({}{more})", names.len(), some.join(", ")));
    }
    if env::var_os("CHECKPOINTER").is_some_and(|c| c == "criu") {
        text.push_str("\nunder test: CRIU, not dormouse");
    }
    text
}
