//! Random graphs of open files of every kind, shared by duplicates, a child and messages in flight,
//! many in one program: dumped and restored, each is one open file description where it was one, and
//! two where it was two.
//!
//! `FD_WORLDS=1000` tries that many instead of 60. A failure is shrunk to a graph that still fails.

mod worlds;

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use dormouse_scenarios::fd_worlds::{Graph, KINDS, Op, SLOTS, Verb, line};
use dormouse_testkit::checkpointer::Checkpointer;
use dormouse_testkit::failure::Failure;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

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
    worlds: usize,
) -> Result<(), Failure> {
    let rounds = worlds.div_ceil(TOGETHER);
    let config = Config {
        cases: u32::try_from(rounds).unwrap_or(u32::MAX),
        failure_persistence: None,
        max_shrink_iters: 200,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let round = Cell::new(0);
    let check = |graphs: Vec<Graph>| {
        round.set(round.get() + 1);
        let dir = dir.join(format!("round-{}", round.get()));
        let outcome = compare(scenario, checkpointer, &dir, &graphs);
        worlds::end_all();
        outcome.map_err(|failure| TestCaseError::fail(failure.to_string()))?;
        // Hundreds of images would fill the disk.
        let _ = fs::remove_dir_all(&dir);
        Ok(())
    };
    TestRunner::new(config)
        .run(&prop::collection::vec(graph(), 1..2 * TOGETHER), check)
        .map_err(|error| Failure::Verdict(error.to_string()))
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
) -> Result<(), Failure> {
    let text: Vec<String> = graphs.iter().map(line).collect();
    let program = (scenario, "--fd-worlds");
    let (expected, found) = worlds::outcomes(program, checkpointer, dir, &text.join("\n"))?;
    let differs = |(was, is): &(&str, &str)| was != is;
    match expected.lines().zip(found.lines()).find(differs) {
        None if expected.lines().count() == graphs.len() && found.len() == expected.len() => Ok(()),
        None => Err(Failure::Verdict("the outcomes are of different lengths".into())),
        Some((was, is)) => Err(Failure::Verdict(format!("it was\n{was}\nand is\n{is}"))),
    }
}
