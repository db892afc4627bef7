//! How many system calls dumps and restores make for every thread, process,
//! mapping and descriptor, and for a single process in all. Unlike time, that does
//! not depend on what else the machine does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use counter::{Counter, Tracepoints};
use dormouse_testkit::binaries::Binaries;
use dormouse_testkit::cases::{self, Case};
use dormouse_testkit::failure::Failure;

mod counter;

/// A workload, and what each unit of it may cost at most.
struct Bound {
    workload: &'static str,
    /// The smallest size; it is measured at twice and four times that, too.
    size: u32,
    dump: Cost,
    restore: Cost,
}

/// System calls of the command and of its puppets, and how many of them ask
/// something of a stopped task (`ptrace(2)`): with every stop there are some.
/// Waiting does not count, for how often a task is looked at that takes its time
/// to stop depends on the machine.
#[derive(Clone, Copy, Debug)]
struct Cost {
    calls: f64,
    requests: f64,
}

/// What to call one of the two, and how to tell it.
type Kind = (&'static str, fn(&Cost) -> f64);

const KINDS: [Kind; 2] = [("calls", |cost| cost.calls), ("requests", |cost| cost.requests)];

const fn cost(calls: f64, requests: f64) -> Cost {
    Cost { calls, requests }
}

/// What is measured now, and a little.
const BOUNDS: &[Bound] = &[
    Bound { workload: "threads", size: 50, dump: cost(87.5, 18.2), restore: cost(42.0, 7.2) },
    Bound { workload: "procs", size: 25, dump: cost(435.0, 27.4), restore: cost(205.0, 23.4) },
    Bound { workload: "chain", size: 25, dump: cost(435.0, 27.4), restore: cost(205.0, 26.4) },
    Bound { workload: "vmas", size: 500, dump: cost(1.4, 0.05), restore: cost(0.8, 0.05) },
    Bound { workload: "fds", size: 400, dump: cost(2.9, 0.1), restore: cost(2.9, 0.1) },
    Bound { workload: "epoll", size: 400, dump: cost(0.35, 0.1), restore: cost(2.6, 0.1) },
    Bound { workload: "sockets", size: 400, dump: cost(3.0, 0.1), restore: cost(16.0, 0.1) },
];

/// Dump and restore of one process that sleeps, from the first call of the command
/// to its last.
const TINY: [Cost; 2] = [cost(850.0, 29.0), cost(850.0, 47.0)];

/// More for one unit of a larger size than of a smaller would be no straight line.
const BEND: f64 = 1.25;
/// The fewest of so many are taken.
const TRIES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

const CALLS: &str = "raw_syscalls/sys_enter";
const WAITS: [&str; 5] = [
    "syscalls/sys_enter_wait4",
    "syscalls/sys_enter_waitid",
    "syscalls/sys_enter_sched_yield",
    "syscalls/sys_enter_clock_nanosleep",
    "syscalls/sys_enter_futex",
];
const REQUESTS: &str = "syscalls/sys_enter_ptrace";

fn fail(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> Failure {
    let path = path.to_owned();
    move |source| Failure::Io { operation, path: path.clone(), source }
}

/// A workload in a directory of its own.
struct Target {
    pid: u32,
    dir: PathBuf,
}

impl Target {
    fn start(scenario: &Path, workload: &str, size: u32, dir: PathBuf) -> Result<Self, Failure> {
        for name in ["state", "images"] {
            fs::create_dir_all(dir.join(name)).map_err(fail("create", &dir))?;
        }
        let state = dir.join("state");
        let child = Command::new(scenario)
            .args(["--workload", workload, &size.to_string()])
            .arg(&state)
            .current_dir(&state)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(fail("start", scenario))?;
        let target = Self { pid: child.id(), dir };
        target.until("the workload is ready", || state.join("ready").exists())?;
        Ok(target)
    }

    fn until(&self, step: &'static str, holds: impl Fn() -> bool) -> Result<(), Failure> {
        let began = Instant::now();
        while !holds() {
            if began.elapsed() > PATIENCE {
                return Err(Failure::Late { step, limit: PATIENCE });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Its tasks, which make no calls of their own. Nobody else has been started
    /// since.
    fn tasks(&self) -> Result<Vec<i32>, Failure> {
        let list = |path: &Path| -> Result<Vec<i32>, Failure> {
            let entries = fs::read_dir(path).map_err(fail("list", path))?;
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            Ok(names.filter_map(|name| name.parse().ok()).collect())
        };
        let first = self.pid.cast_signed();
        let mut tasks = Vec::new();
        for pid in list(Path::new("/proc"))?.into_iter().filter(|&pid| pid >= first) {
            tasks.extend(list(&Path::new("/proc").join(pid.to_string()).join("task"))?);
        }
        Ok(tasks)
    }

    /// Runs a command, and counts what it and those `tasks` did.
    fn counted(
        &self,
        command: &mut Command,
        tracepoints: &Tracepoints,
        tasks: &[i32],
    ) -> Result<Cost, Failure> {
        let failed = fail("count in", Path::new("perf_event_open"));
        let counters = |name| -> io::Result<Vec<Counter>> {
            let mut counters = vec![tracepoints.of_children(name)?];
            for &task in tasks {
                counters.push(tracepoints.of_task(name, task)?);
            }
            Ok(counters)
        };
        let calls = counters(CALLS).map_err(&failed)?;
        let waits: Vec<_> = WAITS
            .iter()
            .map(|name| tracepoints.of_children(name).map_err(&failed))
            .collect::<Result<_, _>>()?;
        let requests = tracepoints.of_children(REQUESTS).map_err(&failed)?;
        let images = self.dir.join("images");
        let output =
            fs::File::create(self.dir.join("output")).map_err(fail("create", &self.dir))?;
        command.arg("-D").arg(&images).stdin(Stdio::null());
        command.stdout(output.try_clone().map_err(&failed)?).stderr(output);
        let status = command.status().map_err(fail("run", &images))?;
        if !status.success() {
            return Err(Failure::Command { command: format!("{command:?}"), status });
        }
        let read = |counter: &Counter| counter.read().map(|count| count as f64).map_err(&failed);
        let calls: f64 = calls.iter().map(read).sum::<Result<_, _>>()?;
        let waits: f64 = waits.iter().map(read).sum::<Result<_, _>>()?;
        Ok(Cost { calls: calls - waits, requests: read(&requests)? })
    }
}

/// What a dump and a restore of the workload cost.
fn measure(
    (scenario, dormouse): (&Path, &Path),
    (workload, size): (&str, u32),
    (dir, tracepoints): (PathBuf, &Tracepoints),
) -> Result<[Cost; 2], Failure> {
    let target = Target::start(scenario, workload, size, dir)?;
    let pid = target.pid.to_string();
    let tasks = target.tasks()?;
    let mut dump = Command::new(dormouse);
    let dump = target.counted(dump.args(["dump", "-t", &pid]), tracepoints, &tasks)?;
    while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::empty()) {}
    let mut restore = Command::new(dormouse);
    let restore = target.counted(restore.args(["restore", "-d"]), tracepoints, &[])?;
    let state = target.dir.join("state");
    fs::write(state.join("go"), "0").map_err(fail("write", &state))?;
    let verdict = state.join("verdict");
    target.until("the workload judges itself", || {
        fs::read_to_string(&verdict).is_ok_and(|verdict| verdict.ends_with('\n') || verdict == "ok")
    })?;
    match fs::read_to_string(&verdict).map_err(fail("read", &verdict))?.trim() {
        "ok" => Ok([dump, restore]),
        wrong => Err(Failure::Verdict(wrong.to_owned())),
    }
}

fn least(all: &[[Cost; 2]]) -> [Cost; 2] {
    [0, 1].map(|command| Cost {
        calls: all.iter().map(|costs| costs[command].calls).fold(f64::MAX, f64::min),
        requests: all.iter().map(|costs| costs[command].requests).fold(f64::MAX, f64::min),
    })
}

fn test(scenario: &Path, dormouse: &Path, bound: &Bound, dir: &Path) -> Result<(), Failure> {
    let tracepoints = Tracepoints::mount(dir).map_err(fail("mount tracefs at", dir))?;
    let sizes = [1, 2, 4].map(|times| bound.size * times);
    let mut costs = Vec::new();
    for size in sizes {
        let mut tries = Vec::new();
        for number in 0..TRIES {
            let dir = dir.join(format!("{size}-{number}"));
            let what = (bound.workload, size);
            tries.push(measure((scenario, dormouse), what, (dir, &tracepoints))?);
        }
        costs.push(least(&tries));
    }
    let mut wrong = Vec::new();
    for (index, (name, most)) in
        [("dump", bound.dump), ("restore", bound.restore)].iter().enumerate()
    {
        let each = |from: usize, of: fn(&Cost) -> f64| {
            let units = f64::from(sizes[from + 1] - sizes[from]);
            (of(&costs[from + 1][index]) - of(&costs[from][index])) / units
        };
        for (kind, of) in KINDS {
            let (less, more) = (each(0, of), each(1, of));
            let said = format!(
                "{name} of {}: {less:.2} {kind} for each up to {}, {more:.2} up to {}, at most {:.2}",
                bound.workload,
                sizes[1],
                sizes[2],
                of(most),
            );
            eprintln!("{said}");
            if less.max(more) > of(most) || more > less * BEND + 0.2 {
                wrong.push(said);
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::Verdict(wrong.join("; "))) }
}

fn test_tiny(scenario: &Path, dormouse: &Path, dir: &Path) -> Result<(), Failure> {
    let tracepoints = Tracepoints::mount(dir).map_err(fail("mount tracefs at", dir))?;
    let mut tries = Vec::new();
    for number in 0..TRIES {
        let dir = dir.join(number.to_string());
        tries.push(measure((scenario, dormouse), ("tiny", 1), (dir, &tracepoints))?);
    }
    let mut wrong = Vec::new();
    for (name, (found, most)) in ["dump", "restore"].iter().zip(least(&tries).iter().zip(&TINY)) {
        for (kind, of) in KINDS {
            let said = format!("{name}: {} {kind}, at most {}", of(found), of(most));
            eprintln!("{said}");
            if of(found) > of(most) {
                wrong.push(said);
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::Verdict(wrong.join("; "))) }
}

fn main() -> ExitCode {
    let scenario = Path::new(env!("CARGO_BIN_EXE_dormouse-scenario"));
    let binaries = Binaries::find(scenario);
    let under_test = binaries.under_test.as_ref();
    let case = |bound: Option<&'static Bound>| {
        let program = under_test.map(|checkpointer| checkpointer.program.clone());
        let missing = program.as_ref().err().map(ToString::to_string);
        let run = move |dir: &Path| match (&program, bound) {
            (Ok(program), Some(bound)) => test(scenario, program, bound, dir),
            (Ok(program), None) => test_tiny(scenario, program, dir),
            (Err(missing), _) => Err(Failure::Verdict(missing.to_string())),
        };
        let skip = cases::skip_all().or(missing);
        let name = bound.map_or("tiny", |bound| bound.workload).to_owned();
        Case { name, skip, run: Box::new(run) }
    };
    let cases: Vec<Case<'_>> =
        std::iter::once(None).chain(BOUNDS.iter().map(Some)).map(case).collect();
    cases::main(&cases)
}
