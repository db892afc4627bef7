//! Programs of worlds, run twice: undisturbed, and with a checkpoint.

#![allow(dead_code, reason = "each of the tests uses a part")]

mod shrink;

use std::cell::Cell;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dormouse_testkit::binaries::Binaries;
use dormouse_testkit::cases::{self, Case};
use dormouse_testkit::checkpointer::Checkpointer;
use dormouse_testkit::failure::{Failure, io_failure};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestRng, TestRunner};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

pub(crate) use shrink::{Failing, Fault};

/// The worlds of one test.
#[derive(Clone, Copy)]
pub(crate) struct Share {
    /// Which test it is.
    number: usize,
    worlds: usize,
}

/// Tries worlds with the program of the scenarios and a checkpointer, in a directory.
type Try = fn(&Path, &Checkpointer, &Path, Share) -> Result<(), Failure>;

/// Runs as many tests as it takes for the number of worlds that the variable asks for.
pub(crate) fn main(
    name: &'static str,
    (variable, usual): (&str, usize),
    a_test: usize,
    missing: impl FnOnce() -> Option<String>,
    all: Try,
) -> ExitCode {
    let scenario = Path::new(env!("CARGO_BIN_EXE_dormouse-scenario"));
    let binaries = Binaries::find(scenario);
    let skip = cases::skip_all()
        .or_else(|| cases::skip(name, &[] as &[&str], &binaries, &[]))
        .or_else(missing);
    let asked = std::env::var(variable).ok().and_then(|number| number.parse().ok());
    let worlds = asked.unwrap_or(usual);
    let case = |number: usize| {
        let binaries = &binaries;
        let some = Share { number, worlds: a_test.min(worlds - number * a_test) };
        let run = move |dir: &Path| match &binaries.under_test {
            Ok(checkpointer) => all(scenario, checkpointer, dir, some),
            Err(missing) => Err(Failure::Verdict(missing.to_string())),
        };
        let name = format!("{name}::{number}");
        Case { name, skip: skip.clone(), run: Box::new(run) }
    };
    let cases: Vec<_> = (0..worlds.div_ceil(a_test)).map(case).collect();
    cases::main(&cases)
}

/// What a program says of the worlds it is given, undisturbed and dumped and restored with more
/// options.
pub(crate) fn outcomes(
    program: (&Path, &str),
    checkpointer: &Checkpointer,
    dir: &Path,
    text: &str,
    options: &[&str],
) -> Result<(String, String), Failure> {
    fs::create_dir(dir).map_err(io_failure("create", dir))?;
    let expected = undisturbed(program, &dir.join("undisturbed"), text)?;
    let found = restored(program, checkpointer, &dir.join("frozen"), text, options)?;
    Ok((expected, found))
}

/// Tries worlds, `together` of them in one program on average; `compare` does it in a directory of its
/// own, which it makes. A failure ends with the worlds it is shrunk to and the seed.
pub(crate) fn try_all<W: Clone + std::fmt::Debug>(
    Share { number, worlds }: Share,
    together: usize,
    dir: &Path,
    world: impl Strategy<Value = W>,
    compare: impl Fn(&Path, &[W]) -> Result<(), Fault>,
) -> Result<(), Failure> {
    let attempts = Cell::new(0);
    let attempt = |worlds: &[W]| {
        attempts.set(attempts.get() + 1);
        let dir = dir.join(format!("attempt-{}", attempts.get()));
        let outcome = compare(&dir, worlds).map_err(|fault| fault.with_logs(&dir.join("frozen")));
        end_all();
        // Hundreds of images would fill the disk.
        if outcome.is_ok() || std::env::var_os("DORMOUSE_KEEP").is_none() {
            let _ = fs::remove_dir_all(&dir);
        }
        outcome
    };
    let seed = seed();
    let mut runner = runner(seed, number);
    for _ in 0..worlds.div_ceil(together) {
        let size = any(&(1..2 * together), &mut runner)?.current();
        let trees = (0..size).map(|_| any(&world, &mut runner));
        let trees = trees.collect::<Result<Vec<_>, _>>()?;
        let worlds: Vec<W> = trees.iter().map(ValueTree::current).collect();
        if let Err(fault) = attempt(&worlds) {
            let Failing { worlds, fault } = Failing { worlds, fault }.shrink(trees, attempt);
            let world = fault.world.filter(|_| worlds.len() > 1).map(|world| &worlds[world]);
            let text = match (world, &worlds[..]) {
                (Some(world), all) => format!("one of {} worlds that fail: {world:?}", all.len()),
                (None, all) if all.len() < 4 => format!("the worlds that fail: {all:?}"),
                (None, all) => format!("{} worlds fail together", all.len()),
            };
            let verdict = format!("{}\n{text}\nPROPTEST_RNG_SEED={seed}", fault.failure);
            return Err(Failure::Verdict(verdict));
        }
    }
    Ok(())
}

fn any<S: Strategy>(strategy: &S, runner: &mut TestRunner) -> Result<S::Tree, Failure> {
    strategy.new_tree(runner).map_err(|reason| Failure::Verdict(reason.to_string()))
}

/// What any test that is made of chance begins with: see `.cargo/config.toml`.
fn seed() -> u64 {
    match Config::default().rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => RandomState::new().hash_one(0),
    }
}

/// Each test has its own worlds.
fn runner(seed: u64, test: usize) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&test.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(Config::default(), random)
}

/// What it says if nobody disturbs it.
pub(crate) fn undisturbed(
    program: (&Path, &str),
    dir: &Path,
    text: &str,
) -> Result<String, Failure> {
    Run::start(program, dir, text)?.finish()
}

/// What it says once it was dumped and restored, with more options.
pub(crate) fn restored(
    program: (&Path, &str),
    checkpointer: &Checkpointer,
    dir: &Path,
    text: &str,
    options: &[&str],
) -> Result<String, Failure> {
    let mut run = Run::start(program, dir, text)?;
    let (images, logs) = directories(dir)?;
    checkpointer.dump(run.child.id() as i32, &images, &logs, options).succeed()?;
    run.child.wait().map_err(io_failure("wait for", "a program of worlds"))?;
    reap();
    checkpointer.restore(&images, &dir.join("pidfile"), &logs, options).succeed()?;
    run.finish()
}

/// What it says once it was dumped and left running, with more options.
pub(crate) fn left_running(
    program: (&Path, &str),
    checkpointer: &Checkpointer,
    dir: &Path,
    text: &str,
    options: &[&str],
) -> Result<String, Failure> {
    let run = Run::start(program, dir, text)?;
    let (images, logs) = directories(dir)?;
    let options = [options, &["--leave-running"]].concat();
    checkpointer.dump(run.child.id() as i32, &images, &logs, &options).succeed()?;
    run.finish()
}

/// Directories for the images and for what is printed.
fn directories(dir: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    let (images, logs) = (dir.join("images"), dir.join("logs"));
    for dir in [&images, &logs] {
        fs::create_dir(dir).map_err(io_failure("create", dir))?;
    }
    Ok((images, logs))
}

/// Ends what a failed round has left. The pen has nothing else in it.
pub(crate) fn end_all() {
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

/// The program, under way.
struct Run {
    /// What is restored has the same number.
    child: Child,
    dir: PathBuf,
}

const PATIENCE: Duration = Duration::from_secs(60);

impl Run {
    fn start((scenario, mode): (&Path, &str), dir: &Path, text: &str) -> Result<Self, Failure> {
        fs::create_dir(dir).map_err(io_failure("create", dir))?;
        let worlds = dir.join("worlds");
        fs::write(&worlds, text).map_err(io_failure("write", &worlds))?;
        let err = dir.join("err");
        let err = File::create(&err).map_err(io_failure("create", &err))?;
        let mut command = Command::new(scenario);
        command.arg(mode).arg(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(err);
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
