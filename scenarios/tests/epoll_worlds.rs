//! Random worlds of processes, files, numbers and epolls, dumped and restored as one program: what
//! every operation gives afterwards must be what it gives in a run that nobody disturbed.
//!
//! The kernel itself is the model: it plays the same histories twice. `EPOLL_WORLDS=5000
//! PROPTEST_RNG_SEED=random` tries that many new ones instead of always the same 300. A failure is
//! shrunk to a world that still fails.

mod worlds;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use dormouse_scenarios::worlds::{
    ACTORS, FILES, History, KINDS, NUMBERS, OPTIONS, Op, PLAIN, Verb,
};
use dormouse_testkit::checkpointer::Checkpointer;
use dormouse_testkit::failure::Failure;
use proptest::prelude::*;
use worlds::{Fault, Share};

/// How many worlds share one program, on average.
const TOGETHER: usize = 50;

/// How many are tried.
const WORLDS: usize = 300;

/// How many one test tries: a test has a limited time.
const A_TEST: usize = 50;

fn main() -> ExitCode {
    let cannot_read = || epoll_interest::Inspector::new().err().map(|error| error.to_string());
    worlds::main("epoll_worlds", ("EPOLL_WORLDS", WORLDS), A_TEST, cannot_read, all)
}

fn all(
    scenario: &Path,
    checkpointer: &Checkpointer,
    dir: &Path,
    share: Share,
) -> Result<(), Failure> {
    worlds::try_all(share, TOGETHER, dir, history(), |dir, worlds| {
        compare(scenario, checkpointer, dir, worlds)
    })
}

fn history() -> impl Strategy<Value = History> {
    let ops = |most| prop::collection::vec(op(), 0..most);
    let closes = prop::collection::vec((0..ACTORS, 0..FILES), 0..20).prop_map(|lost| {
        let lose = |(actor, file)| Op { actor, file, ..Op::NOTHING };
        lost.into_iter().map(lose).collect()
    });
    let all = (0..KINDS, ops(60), closes, ops(30));
    all.prop_map(|(kind, before, closes, after)| History { kind, before, closes, after })
}

fn op() -> impl Strategy<Value = Op> {
    let conditions = prop_oneof![
        4 => Just(libc::EPOLLIN),
        2 => Just(libc::EPOLLOUT),
        3 => Just(libc::EPOLLIN | libc::EPOLLOUT),
        1 => Just(libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLPRI),
        1 => Just(0),
    ];
    let ways = prop_oneof![
        3 => Just(0),
        4 => Just(libc::EPOLLET),
        3 => Just(libc::EPOLLONESHOT),
        1 => Just(libc::EPOLLONESHOT | libc::EPOLLET),
        1 => Just(libc::EPOLLEXCLUSIVE),
        1 => Just(libc::EPOLLEXCLUSIVE | libc::EPOLLET),
    ];
    let events = (conditions, ways).prop_map(|(what, how)| (what | how) as u32);
    let verb = prop_oneof![
        5 => Just(Verb::Open),
        1 => Just(Verb::Close),
        8 => Just(Verb::Add),
        3 => Just(Verb::Modify),
        1 => Just(Verb::Delete),
        6 => Just(Verb::Wait),
        4 => Just(Verb::Write),
        3 => Just(Verb::Read),
        1 => Just(Verb::Send),
        1 => Just(Verb::Receive),
    ];
    let rest = (0..ACTORS, 0..FILES, 0..NUMBERS, events, 0..5_u64);
    (verb, rest).prop_map(|(verb, (actor, file, number, events, data))| {
        let of_epoll = matches!(verb, Verb::Add | Verb::Modify | Verb::Delete | Verb::Wait);
        let file = if of_epoll { PLAIN + file % (FILES - PLAIN) } else { file };
        Op { verb, actor, file, number, events, data }
    })
}

/// Plays the histories undisturbed and with a checkpoint, and compares.
fn compare(
    scenario: &Path,
    checkpointer: &Checkpointer,
    dir: &Path,
    histories: &[History],
) -> Result<(), Fault> {
    let text: Vec<String> = histories.iter().map(ToString::to_string).collect();
    let (expected, found) =
        worlds::outcomes((scenario, "--worlds"), checkpointer, dir, &text.join("\n"), OPTIONS)?;
    if found == expected {
        return Ok(());
    }
    // Before the checkpoint all worlds are in one part; after it each has its own.
    let parts = expected.split("\n\n").zip(found.split("\n\n"));
    let differs = |(_, (expected, found)): &(usize, (&str, &str))| expected.trim() != found.trim();
    let Some((part, (expected, found))) = parts.enumerate().find(differs) else {
        return Err(Failure::Verdict("there are not as many outcomes".into()).into());
    };
    let world = part.checked_sub(1).filter(|&world| world < histories.len());
    let ops = world.map(|world| histories[world].clone().whole().after).unwrap_or_default();
    let difference = Difference { expected: expected.trim(), found: found.trim(), ops: &ops };
    Err(Fault { failure: Failure::Verdict(difference.to_string()), world })
}

/// The first operation whose outcome is another.
struct Difference<'a> {
    expected: &'a str,
    found: &'a str,
    ops: &'a [Op],
}

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, found, ops } = self;
        let mut lines = expected.lines().zip(found.lines()).enumerate();
        match lines.find(|(_, (was, is))| was != is) {
            None => f.write_str("there are not as many outcomes"),
            Some((number, (was, is))) => match ops.get(number) {
                Some(op) => write!(f, "after it, {op:?} (number {number}): {was:?}, then {is:?}"),
                None => write!(f, "outcome {number}: {was:?}, then {is:?}"),
            },
        }
    }
}
