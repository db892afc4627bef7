//! Random graphs of open files of every kind, shared by duplicates, a child and messages in flight,
//! many in one program: dumped and restored, each is one open file description where it was one, and
//! two where it was two.
//!
//! `FD_WORLDS=1000 PROPTEST_RNG_SEED=random` tries that many new ones instead of always the same 60. A
//! failure is shrunk to a graph that still fails.

mod worlds;

use std::path::Path;
use std::process::ExitCode;

use dormouse_scenarios::fd_worlds::{Graph, KINDS, Op, SLOTS, Verb, line};
use dormouse_testkit::checkpointer::Checkpointer;
use dormouse_testkit::failure::Failure;
use proptest::prelude::*;
use worlds::{Fault, Share};

/// How many worlds share one program, on average.
const TOGETHER: usize = 20;
/// How many are tried.
const WORLDS: usize = 60;
/// How many one test tries: a test has a limited time.
const A_TEST: usize = 100;

fn main() -> ExitCode {
    worlds::main("fd_worlds", ("FD_WORLDS", WORLDS), A_TEST, || None, all)
}

fn all(
    scenario: &Path,
    checkpointer: &Checkpointer,
    dir: &Path,
    share: Share,
) -> Result<(), Failure> {
    worlds::try_all(share, TOGETHER, dir, graph(), |dir, worlds| {
        compare(scenario, checkpointer, dir, worlds)
    })
}

fn graph() -> impl Strategy<Value = Graph> {
    let ops = |most| prop::collection::vec(op(), 0..most);
    (ops(30), ops(10), ops(20)).prop_map(|(before, child, after)| [before, child, after])
}

fn op() -> impl Strategy<Value = Op> {
    let verb = prop_oneof![
        6 => Just(Verb::Make),
        3 => Just(Verb::Duplicate),
        1 => Just(Verb::Close),
        5 => Just(Verb::Send),
        1 => Just(Verb::Receive),
    ];
    (verb, 0..SLOTS, 0..SLOTS, 0..KINDS).prop_map(|(verb, slot, other, kind)| {
        let with = if verb == Verb::Make { kind } else { other };
        Op { verb, slot, with }
    })
}

fn compare(
    scenario: &Path,
    checkpointer: &Checkpointer,
    dir: &Path,
    graphs: &[Graph],
) -> Result<(), Fault> {
    let text: Vec<String> = graphs.iter().map(line).collect();
    let program = (scenario, "--fd-worlds");
    let (expected, found) = worlds::outcomes(program, checkpointer, dir, &text.join("\n"), &[])?;
    let differs = |(_, (was, is)): &(usize, (&str, &str))| was != is;
    match expected.lines().zip(found.lines()).enumerate().find(differs) {
        None if expected.lines().count() == graphs.len() && found.len() == expected.len() => Ok(()),
        None => Err(Failure::Verdict("the outcomes are of different lengths".into()).into()),
        Some((world, (was, is))) => {
            let failure = Failure::Verdict(format!("it was\n{was}\nand is\n{is}"));
            Err(Fault { failure, world: Some(world) })
        }
    }
}
