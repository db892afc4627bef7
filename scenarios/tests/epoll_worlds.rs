//! Random worlds of processes, files, numbers and epolls, dumped and restored as one program: what
//! every operation gives afterwards must be what it gives in a run that nobody disturbed.
//!
//! The kernel itself is the model: it plays the same histories twice. `EPOLL_WORLDS=5000` tries that
//! many instead of 300. A failure is shrunk to a world that still fails.

use std::cell::Cell;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dormouse_scenarios::worlds::{FILES, History, NUMBERS, Op, PLAIN, Verb};
use dormouse_testkit::binaries::Binaries;
use dormouse_testkit::cases::{self, Case};
use dormouse_testkit::checkpointer::Checkpointer;
use dormouse_testkit::failure::{Failure, io_failure};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

/// How many worlds share one program, on average.
const TOGETHER: usize = 100;

/// How many are tried.
const WORLDS: usize = 300;

/// How many one test tries: a test has a limited time.
const A_TEST: usize = 300;

fn main() -> ExitCode {
    let scenario = Path::new(env!("CARGO_BIN_EXE_dormouse-scenario"));
    let binaries = Binaries::find(scenario);
    let cannot_read = || epoll_interest::Inspector::new().err().map(|error| error.to_string());
    let skip = cases::skip_all()
        .or_else(|| cases::skip("epoll_worlds", &[] as &[&str], &binaries, &[]))
        .or_else(cannot_read);
    let asked = std::env::var("EPOLL_WORLDS").ok().and_then(|number| number.parse().ok());
    let worlds = asked.unwrap_or(WORLDS);
    let case = |number: usize| {
        let binaries = &binaries;
        let some = A_TEST.min(worlds - number * A_TEST);
        let run = move |dir: &Path| match &binaries.under_test {
            Ok(checkpointer) => all(scenario, checkpointer, dir, some),
            Err(missing) => Err(Failure::Verdict(missing.to_string())),
        };
        let name = format!("epoll_worlds::{number}");
        Case { name, skip: skip.clone(), run: Box::new(run) }
    };
    let cases: Vec<_> = (0..worlds.div_ceil(A_TEST)).map(case).collect();
    cases::main(&cases)
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
        max_shrink_iters: 60,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let round = Cell::new(0);
    // A failure shrinks to fewer worlds, then to shorter histories.
    let histories = prop::collection::vec(history(), 1..2 * TOGETHER);
    let check = |histories: Vec<History>| {
        round.set(round.get() + 1);
        let dir = dir.join(format!("round-{}", round.get()));
        let outcome = compare(scenario, checkpointer, &dir, &histories);
        end_all();
        outcome.map_err(|failure| TestCaseError::fail(failure.to_string()))?;
        // Hundreds of images would fill the disk.
        let _ = fs::remove_dir_all(&dir);
        Ok(())
    };
    TestRunner::new(config)
        .run(&histories, check)
        .map_err(|error| Failure::Verdict(error.to_string()))
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
    fs::create_dir(dir).map_err(io_failure("create", dir))?;
    let expected = Run::start(scenario, &dir.join("undisturbed"), histories)?.finish()?;
    let mut run = Run::start(scenario, &dir.join("frozen"), histories)?;
    let (images, logs) = (dir.join("images"), dir.join("logs"));
    for dir in [&images, &logs] {
        fs::create_dir(dir).map_err(io_failure("create", dir))?;
    }
    checkpointer.dump(run.child.id() as i32, &images, &logs, &[]).succeed()?;
    run.child.wait().map_err(io_failure("wait for", "a program of worlds"))?;
    reap();
    checkpointer.restore(&images, &dir.join("pidfile"), &logs, &[]).succeed()?;
    let found = run.finish()?;
    if found == expected {
        return Ok(());
    }
    Err(Failure::Verdict(Difference { expected, found, histories }.to_string()))
}

/// Ends what a failed round has left. The pen has nothing else in it.
fn end_all() {
    let names =
        fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    let pids = names.filter_map(|name| Pid::from_raw(name.to_str()?.parse().ok()?));
    for pid in pids.filter(|pid| !pid.is_init()) {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::KILL);
    }
    reap();
}

/// Frees the numbers of all tasks: the first process of a pen inherits those that nobody waits for.
fn reap() {
    while wait(WaitOptions::empty()).is_ok() {}
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

/// The program, under way.
struct Run {
    /// What is restored has the same number.
    child: Child,
    dir: PathBuf,
}

const PATIENCE: Duration = Duration::from_secs(60);

impl Run {
    fn start(scenario: &Path, dir: &Path, histories: &[History]) -> Result<Self, Failure> {
        fs::create_dir(dir).map_err(io_failure("create", dir))?;
        let text: Vec<String> = histories.iter().map(ToString::to_string).collect();
        let worlds = dir.join("worlds");
        fs::write(&worlds, text.join("\n")).map_err(io_failure("write", &worlds))?;
        let err = dir.join("err");
        let err = File::create(&err).map_err(io_failure("create", &err))?;
        let mut command = Command::new(scenario);
        command.arg("--worlds").arg(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(err);
        let child = command.spawn().map_err(io_failure("run", scenario))?;
        let run = Self { child, dir: dir.to_owned() };
        run.until("ready")?;
        Ok(run)
    }

    fn until(&self, name: &str) -> Result<(), Failure> {
        let began = Instant::now();
        while !self.dir.join(name).exists() {
            let status = format!("/proc/{}/stat", self.child.id());
            let status = fs::read_to_string(&status).unwrap_or_default();
            if status.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X'])) {
                let said = fs::read_to_string(self.dir.join("err")).unwrap_or_default();
                return Err(Failure::Verdict(format!("a program of worlds ended: {said}")));
            }
            if began.elapsed() > PATIENCE {
                return Err(Failure::Late { step: "a program of worlds", limit: PATIENCE });
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn finish(self) -> Result<String, Failure> {
        let go = self.dir.join("go");
        fs::write(&go, "0").map_err(io_failure("write", &go))?;
        self.until("outcomes")?;
        reap();
        let outcomes = self.dir.join("outcomes");
        fs::read_to_string(&outcomes).map_err(io_failure("read", outcomes))
    }
}
