//! Fewer worlds, and simpler ones, that fail as well.

use std::path::Path;
use std::time::{Duration, Instant};

use dormouse_testkit::action::logs;
use dormouse_testkit::failure::Failure;
use proptest::strategy::ValueTree;

/// What is wrong, and with which world, where that can be told.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) failure: Failure,
    pub(crate) world: Option<usize>,
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self { failure, world: None }
    }
}

impl Fault {
    /// Why a command failed is in its log.
    pub(crate) fn with_logs(self, dir: &Path) -> Self {
        let Self { failure, world } = self;
        let failure = match failure {
            Failure::Command { .. } => Failure::Verdict(format!("{failure}\n{}", logs(dir))),
            other => other,
        };
        Self { failure, world }
    }
}

/// A world that fails by itself is found and made simpler within this time.
const LIMIT: Duration = Duration::from_secs(60);

/// What has failed last, on the way to less.
pub(crate) struct Failing<W> {
    pub(crate) worlds: Vec<W>,
    pub(crate) fault: Fault,
}

impl<W: Clone> Failing<W> {
    /// The least that is found. The trees are those of the worlds.
    pub(crate) fn shrink(
        mut self,
        mut trees: Vec<impl ValueTree<Value = W>>,
        attempt: impl Fn(&[W]) -> Result<(), Fault>,
    ) -> Self {
        let end = Instant::now() + LIMIT;
        if let Some(world) = self.fault.world
            && self.fails(vec![self.worlds[world].clone()], &attempt)
        {
            trees = vec![trees.swap_remove(world)];
        }
        let mut some = self.worlds.len() / 2;
        while some > 0 {
            let mut from = 0;
            while from < self.worlds.len() && Instant::now() < end {
                let without = from..self.worlds.len().min(from + some);
                let mut rest = self.worlds.clone();
                rest.drain(without.clone());
                if self.fails(rest, &attempt) {
                    trees.drain(without);
                } else {
                    from += some;
                }
            }
            some /= 2;
        }
        for (number, tree) in trees.iter_mut().enumerate() {
            let mut differs = tree.simplify();
            while differs && Instant::now() < end {
                let mut simpler = self.worlds.clone();
                simpler[number] = tree.current();
                differs =
                    if self.fails(simpler, &attempt) { tree.simplify() } else { tree.complicate() };
            }
        }
        self
    }

    /// Whether these fail, too. No worlds are no test.
    fn fails(&mut self, worlds: Vec<W>, attempt: impl Fn(&[W]) -> Result<(), Fault>) -> bool {
        let fault = if worlds.is_empty() { None } else { attempt(&worlds).err() };
        let fails = fault.is_some();
        if let Some(fault) = fault {
            *self = Self { worlds, fault };
        }
        fails
    }
}
