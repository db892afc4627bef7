//! Every combination of subject and action as one test, or as one counted skip.

use std::path::Path;
use std::process::ExitCode;

use crate::action::{Action, Side};
use crate::binaries::Binaries;
use crate::cases::{self, Case, Lacks};
use crate::failure::Failure;
use crate::subject::{Facts, Subject, User};
use crate::{interop, pen};

/// A subject and an action.
pub struct Combination {
    /// Who.
    pub subject: Subject,
    /// What.
    pub action: Action,
}

/// The actions that make sense for these facts and user, in order.
fn actions(facts: &Facts, user: User) -> Vec<Action> {
    if facts.refused.is_some() {
        return vec![Action::None, Action::Refused];
    }
    let mut list = vec![Action::None, Action::DumpRestore];
    // How often a dump is done, and by whom, has little to do with who runs the target.
    if user == facts.users[0] {
        list.extend([Action::LeaveRunning, Action::Twice]);
        list.extend(Action::EXCHANGE);
        if facts.dump_faults {
            list.extend([Action::KilledDump, Action::FailedDump]);
        }
        if facts.restore_faults {
            list.extend([Action::KilledRestore, Action::PidTaken]);
        }
    }
    list
}

/// Scenarios for which a root must not be odd: they look at a session of their own, have names in
/// the working directory, standard input, or signals that an odd root blocks.
const EVEN: [&str; 5] = [
    "signals::handler_running",
    "tree::sessions",
    "tree::shared_memory",
    "tree::sleeper",
    "unix::names",
];

/// Those with a root that is odd, in the session of whoever has started it: a part of the
/// scenarios, as what the root is has little to do with most of them.
fn of_odd_root(facts: &Facts) -> Vec<Combination> {
    let is_even = EVEN.contains(&facts.name.as_str()) || !facts.users.contains(&User::Root);
    if !facts.restore_faults || is_even || facts.refused.is_some() {
        return Vec::new();
    }
    let mut facts = facts.clone();
    facts.options.push("--shell-job".into());
    let subject = Subject { facts, user: User::Odd };
    let combine = |action| Combination { subject: subject.clone(), action };
    [Action::None, Action::DumpRestore, Action::Twice].map(combine).into()
}

/// All combinations.
#[must_use]
pub fn combinations(scenarios: &[Facts]) -> Vec<Combination> {
    let mut list = Vec::new();
    for facts in scenarios {
        for &user in &facts.users {
            for action in actions(facts, user) {
                list.push(Combination { subject: Subject { facts: facts.clone(), user }, action });
            }
        }
        list.extend(of_odd_root(facts));
    }
    list
}

impl Combination {
    /// The test's name: `subject::scenario::user::action`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}::{}", self.subject, self.action)
    }

    /// The same with CRIU only.
    fn criu_alone(&self) -> Option<Self> {
        let exchange = self.action == Action::EXCHANGE[0];
        exchange.then(|| Self { subject: self.subject.clone(), action: Action::CRIU_ALONE })
    }

    /// It as a test. What is [CRIU's own](Self::is_of_criu) in an exchange of images is told, and
    /// is no failure.
    #[must_use]
    pub fn case<'a>(&'a self, binaries: &'a Binaries, lacks: Lacks<'_>) -> Case<'a> {
        let run = move |dir: &Path| match self.attempt(binaries, dir) {
            Err(failure) if self.is_of_criu(&failure) => {
                eprintln!("CRIU's own: {failure}");
                Ok(())
            }
            result => result,
        };
        Case { name: self.name(), skip: self.skip(binaries, lacks), run: Box::new(run) }
    }

    /// It as what it is, whoever is to blame.
    pub(crate) fn bare_case<'a>(&'a self, binaries: &'a Binaries) -> Case<'a> {
        let run = move |dir: &Path| self.attempt(binaries, dir);
        Case { name: self.name(), skip: self.skip(binaries, &[]), run: Box::new(run) }
    }

    fn attempt(&self, binaries: &Binaries, dir: &Path) -> Result<(), Failure> {
        let result = self.action.run(&self.subject, binaries, dir);
        if result.is_err() {
            for (keys, reason) in &self.subject.facts.differs {
                eprintln!("(not compared: {keys}, because {reason})");
            }
        }
        result
    }

    /// Is what went wrong in an exchange of images CRIU's own? So it is if what came back is wrong,
    /// or a command of CRIU's failed, and CRIU alone fails as well; if a command of dormouse's
    /// failed, only where CRIU cannot restore its own images either.
    fn is_of_criu(&self, failure: &Failure) -> bool {
        if !Action::EXCHANGE.contains(&self.action) {
            return false;
        }
        let alone = Self { subject: self.subject.clone(), action: Action::CRIU_ALONE };
        let Err(alone) = pen::run(&alone.name(), cases::limit()) else { return false };
        interop::is_of_criu(&failure.to_string(), &alone.to_string())
    }

    fn skip(&self, binaries: &Binaries, lacks: Lacks<'_>) -> Option<String> {
        let facts = &self.subject.facts;
        if let Some(reason) = cases::skip_all().or_else(|| facts.missing.clone()) {
            return Some(reason);
        }
        match self.action {
            Action::None => None,
            Action::Interop(dump, restore) => {
                for side in [dump, restore] {
                    if let Err(missing) = side.of(binaries) {
                        return Some(missing.to_string());
                    }
                }
                let ours = dump == Side::Dormouse || restore == Side::Dormouse;
                if ours { cases::lacking(&self.name(), &facts.needs, lacks) } else { None }
            }
            _ => cases::skip(&self.name(), &facts.needs, binaries, lacks),
        }
    }
}

/// The `main` of a test executable over all scenarios, see [`cases::main`].
#[must_use]
pub fn main(scenario: &Path, lacks: Lacks<'_>) -> ExitCode {
    let binaries = Binaries::find(scenario);
    let inside = pen::inside();
    let test = inside.as_ref().map(|inside| inside.test.clone()).or_else(cases::only_one);
    let facts = match Facts::list(scenario, test.as_deref()) {
        Ok(facts) => facts,
        Err(failure) => {
            eprintln!("{failure}");
            return ExitCode::FAILURE;
        }
    };
    let mut all = combinations(&facts);
    if inside.is_some() {
        // No tests, but others ask for them.
        all.extend(all.iter().filter_map(Combination::criu_alone).collect::<Vec<_>>());
    }
    let cases: Vec<Case<'_>> = all.iter().map(|c| c.case(&binaries, lacks)).collect();
    cases::main(&cases)
}
