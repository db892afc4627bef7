//! Random worlds of processes, files, numbers and epolls, dumped and restored as one program: what
//! every operation gives afterwards must be what it gives in a run that nobody disturbed.
//!
//! The kernel itself is the model: it plays the same histories twice. `EPOLL_WORLDS=5000` tries that
//! many instead of 300. A failure is shrunk to a world that still fails.

mod worlds;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use dormouse_scenarios::worlds::{FILES, History, NUMBERS, Op, PLAIN, Verb};
use dormouse_testkit::checkpointer::Checkpointer;
use dormouse_testkit::failure::Failure;
use proptest::prelude::*;

/// How many worlds share one program, on average.
const TOGETHER: usize = 100;

/// How many are tried.
const WORLDS: usize = 300;

/// How many one test tries: a test has a limited time.
const A_TEST: usize = 300;

fn main() -> ExitCode {
    let cannot_read = || epoll_interest::Inspector::new().err().map(|error| error.to_string());
    worlds::main("epoll_worlds", ("EPOLL_WORLDS", WORLDS), A_TEST, cannot_read, all)
}

fn all(
    scenario: &Path,
    checkpointer: &Checkpointer,
    dir: &Path,
    worlds: usize,
) -> Result<(), Failure> {
    worlds::try_all((worlds, TOGETHER), 60, dir, history(), |dir, worlds| {
        compare(scenario, checkpointer, dir, worlds)
    })
}

fn history() -> impl Strategy<Value = History> {
    let after = prop::collection::vec(op(), 0..30).prop_map(|mut after| {
        after.extend(finale());
        after
    });
    let closes = prop::collection::vec((0..3_usize, 0..FILES), 0..12).prop_map(|lost| {
        let lose = |(actor, file)| Op { actor, file, ..NOTHING };
        lost.into_iter().map(lose).collect()
    });
    let before = prop::collection::vec(op(), 0..60);
    (before, closes, after).prop_map(|(before, closes, after)| History { before, closes, after })
}

const NOTHING: Op = Op { verb: Verb::Lose, actor: 0, file: 0, number: 0, events: 0, data: 0 };

/// All that can be found out at the end: what every epoll has to report, by whoever still has it, and
/// again when every file has been written to.
fn finale() -> Vec<Op> {
    let every = |verb, files: std::ops::Range<usize>| {
        files.flat_map(move |file| {
            (0..3).map(move |actor| Op { verb, actor, file, data: 64, ..NOTHING })
        })
    };
    let look = every(Verb::Wait, PLAIN..FILES);
    let looks = look.clone().chain(every(Verb::Write, 0..PLAIN)).chain(look.clone());
    looks.chain(every(Verb::Read, 0..PLAIN)).chain(look).collect()
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
    let rest = (0..3_usize, 0..FILES, 0..NUMBERS, events, 0..5_u64);
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
) -> Result<(), Failure> {
    let text: Vec<String> = histories.iter().map(ToString::to_string).collect();
    let (expected, found) =
        worlds::outcomes((scenario, "--worlds"), checkpointer, dir, &text.join("\n"))?;
    if found == expected {
        return Ok(());
    }
    Err(Failure::Verdict(Difference { expected, found, histories }.to_string()))
}

/// The first operation whose outcome is another.
struct Difference<'a> {
    expected: String,
    found: String,
    histories: &'a [History],
}

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Before the checkpoint all worlds are in one part; after it each has its own.
        let parts = self.expected.split("\n\n").zip(self.found.split("\n\n")).enumerate();
        for (part, (expected, found)) in parts {
            let lines = expected.trim().lines().zip(found.trim().lines());
            if let Some((number, (was, is))) =
                lines.enumerate().find(|(_, (expected, found))| expected != found)
            {
                let op = part.checked_sub(1).and_then(|world| self.histories.get(world));
                let op = op.and_then(|history| history.after.get(number));
                return write!(f, "part {part}, operation {number} ({op:?}): {was:?}, then {is:?}");
            }
        }
        f.write_str("the outcomes are of different lengths")
    }
}
