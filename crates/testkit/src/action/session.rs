//! One subject under one action: the steps actions are made of.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Pair;
use crate::checkpointer::{Invocation, tail};
use crate::failure::{Failure, io_failure};
use crate::snapshot::Snapshot;
use crate::subject::Subject;
use crate::target::{Target, none_left};

/// A running subject with what has been done to it.
pub struct Session<'a> {
    pub(super) target: Target,
    pub(super) before: Snapshot,
    subject: &'a Subject,
    dir: PathBuf,
    frozen: Duration,
    images: usize,
    except: Vec<(String, String)>,
}

/// How long a tree may take to be itself again. An interrupted task needs a moment to get back into
/// its system call.
const SETTLE: Duration = Duration::from_secs(2);

/// Where a session that failed has its logs, newest last.
const LOGS: [&str; 5] = ["dump.log", "restore.log", "dump.out", "restore.out", "err"];

impl<'a> Session<'a> {
    /// Starts the subject and looks at its tree.
    pub(super) fn start(
        subject: &'a Subject,
        scenario: &Path,
        dir: &Path,
    ) -> Result<Self, Failure> {
        let target = Target::start(subject, scenario, dir)?;
        let before = target.snapshot()?;
        let except = subject.facts.differs.clone();
        let dir = dir.to_owned();
        Ok(Self { target, before, subject, dir, frozen: Duration::ZERO, images: 0, except })
    }

    /// A new, empty directory for images.
    pub(super) fn new_images(&mut self) -> Result<PathBuf, Failure> {
        self.images += 1;
        let images = self.dir.join(format!("images-{}", self.images));
        fs::create_dir(&images).map_err(io_failure("create", &images))?;
        Ok(images)
    }

    /// A dump of the target, and these options.
    pub(super) fn dump(&self, pair: Pair<'_>, images: &Path, more: &[&str]) -> Invocation {
        let options = [&self.subject.facts.options()[..], more].concat();
        pair.dump.dump(self.target.root, images, &self.dir, &options)
    }

    /// A restore of the target.
    pub(super) fn restore(&self, pair: Pair<'_>, images: &Path) -> Result<Invocation, Failure> {
        let pidfile = self.pidfile();
        if pidfile.exists() {
            fs::remove_file(&pidfile).map_err(io_failure("remove", &pidfile))?;
        }
        Ok(pair.restore.restore(images, &pidfile, &self.dir, &self.subject.facts.options()))
    }

    fn pidfile(&self) -> PathBuf {
        self.dir.join("pidfile")
    }

    /// Dumps to the end; the tree must be gone then, and the dumper have left nothing.
    pub(super) fn dump_away(&mut self, pair: Pair<'_>) -> Result<PathBuf, Failure> {
        let images = self.new_images()?;
        let began = Instant::now();
        self.dump(pair, &images, &[]).succeed()?;
        self.target.must_be_gone(self.before.pids(), "after dump")?;
        self.none_left("after dump", &[])?;
        self.frozen += began.elapsed();
        Ok(images)
    }

    /// Restores; the tree must then be what it was.
    pub(super) fn bring_back(&mut self, pair: Pair<'_>, images: &Path) -> Result<(), Failure> {
        let began = Instant::now();
        self.restore(pair, images)?.succeed()?;
        self.allow(pair);
        self.frozen += began.elapsed();
        let pidfile = self.pidfile();
        let said = fs::read_to_string(&pidfile).map_err(io_failure("read", &pidfile))?;
        if said.trim() != self.target.root.to_string() {
            let wrong = std::io::Error::other(format!(
                "it says {said:?}, the root is {}",
                self.target.root
            ));
            return Err(io_failure("believe", pidfile)(wrong));
        }
        self.compare("after restore")?;
        self.none_left("after restore", self.before.pids())
    }

    /// From now on, allows what this pair changes in every tree.
    pub(super) fn allow(&mut self, pair: Pair<'_>) {
        let differs = pair.dump.dumps_differ().iter().chain(pair.restore.differs());
        self.except.extend(differs.map(|&(keys, reason)| (keys.to_owned(), reason.to_owned())));
    }

    /// Dump and restore.
    pub(super) fn cycle(&mut self, pair: Pair<'_>) -> Result<(), Failure> {
        let images = self.dump_away(pair)?;
        self.bring_back(pair, &images)
    }

    /// Dump with `-R`; returns how long it took.
    pub(super) fn dump_and_leave(&mut self, pair: Pair<'_>) -> Result<(), Failure> {
        let images = self.new_images()?;
        let ended = self.dump(pair, &images, &["-R"]).succeed()?;
        self.frozen += ended.took;
        self.compare("after dump -R")?;
        self.none_left("after dump -R", self.before.pids())
    }

    /// Fails if there are other processes than the expected, and one whose pid the scenario leaves in
    /// `stranger`: that is not a part of the tree.
    pub(super) fn none_left(&self, when: &'static str, expected: &[i32]) -> Result<(), Failure> {
        let stranger = fs::read_to_string(self.target.dir.join("stranger")).ok();
        let stranger = stranger.and_then(|pid| pid.parse().ok());
        let expected: Vec<i32> = expected.iter().copied().chain(stranger).collect();
        none_left(when, &expected)
    }

    /// Adds to the time the target was told it was held up.
    pub(super) fn held(&mut self, time: Duration) {
        self.frozen += time;
    }

    /// The tree must be what it was, but for what the scenario excepts.
    pub(super) fn compare(&self, when: &'static str) -> Result<(), Failure> {
        self.target.must_equal(&self.before, when, &self.except, SETTLE)
    }

    /// Is the whole tree there, or nothing of it?
    pub(super) fn whole_or_nothing(&self, when: &'static str) -> Result<bool, Failure> {
        self.target.whole_or_nothing(&self.before, when, &self.except)
    }

    /// The words a refusal must name: the pid, the descriptor if there is one, the kind of object, and
    /// the lines of `naming`, if the scenario has left that. The pid is the root's, unless one of these
    /// lines begins with `pid`.
    pub(super) fn refusal(&self) -> Vec<String> {
        let facts = &self.subject.facts;
        let words = facts.descriptor.iter().chain(&facts.refused).cloned();
        let naming = fs::read_to_string(self.target.dir.join("naming")).unwrap_or_default();
        let words = words.chain(naming.lines().map(str::to_owned));
        let is_about_root = !naming.lines().any(|line| line.starts_with("pid "));
        is_about_root.then(|| self.target.root.to_string()).into_iter().chain(words).collect()
    }

    /// Lets the scenario go on and judges it.
    pub(super) fn judge(&self) -> Result<(), Failure> {
        self.target.judge(self.frozen)
    }
}

/// The tails of all logs under a test's directory, for the reader of a failure.
#[must_use]
pub fn logs(dir: &Path) -> String {
    let mut text = String::new();
    let mut dirs = vec![dir.to_owned()];
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    dirs.extend(entries.filter(|p| p.is_dir()));
    dirs.sort();
    for file in dirs.iter().flat_map(|d| LOGS.map(|l| d.join(l))) {
        let tail = tail(&file, 25);
        if !tail.is_empty() {
            text.push_str(&format!("--- {}\n{tail}\n", file.display()));
        }
    }
    text
}
