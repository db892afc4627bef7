//! `epoll-bench`: what a dump and a restore of a program with a large epoll cost, beside CRIU and
//! beside the bare `epoll_ctl` calls that fill it.
//!
//! Whole commands are measured, from their start to their end, with the peak of their memory. A
//! program without items tells what a command costs that has nothing to do with epolls.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Kind, items, files.
const SIZES: [(&str, u32, u32); 7] = [
    ("live", 0, 0),
    ("live", 1_000, 1_000),
    ("live", 5_000, 5_000),
    ("live", 15_000, 15_000),
    ("stale", 10_000, 1),
    ("stale", 40_000, 4),
    ("stale", 1_000_000, 100),
];

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often each is measured; the best counts.
const ROUNDS: usize = 3;

/// What a command took.
#[derive(Clone, Copy)]
struct Cost {
    time: Duration,
    /// `VmHWM`, in KiB.
    peak: u64,
}

/// A dump and a restore, where they worked.
type Costs = [Option<Cost>; 2];

pub(crate) fn run(options: &[&str]) -> io::Result<ExitCode> {
    let criu = match options {
        [] => None,
        ["--criu", path] => Some(Path::new(path)),
        _ => return Ok(crate::usage()),
    };
    let exe = std::env::current_exe()?;
    let built = exe.with_file_name("dormouse");
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--profile", profile, "-p", "dormouse"]);
    if !build.current_dir(crate::interop::workspace()).status()?.success() {
        return Ok(ExitCode::FAILURE);
    }
    println!(
        "| kind | items | files | bare ms | dump ms | restore ms | dump MiB | restore MiB | exponents \
         | CRIU dump ms | CRIU restore ms |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    );
    let mut before: Option<(&str, u32, Costs)> = None;
    for (kind, items, files) in SIZES {
        let (bare, ours) = best(&exe, &built, (kind, items, files))?;
        let theirs = match criu {
            Some(criu) => best(&exe, criu, (kind, items, files))?.1,
            None => [None; 2],
        };
        let smaller = before.filter(|&(same, size, _)| same == kind && size > 0);
        let growth = smaller.map_or(String::new(), |(_, size, costs)| {
            let ratio = (f64::from(items) / f64::from(size)).ln();
            let exponent = |at: usize| match (costs[at], ours[at]) {
                (Some(small), Some(large)) => {
                    let times = large.time.as_secs_f64() / small.time.as_secs_f64();
                    format!("{:.2}", times.ln() / ratio)
                }
                _ => "-".to_owned(),
            };
            format!("{}, {}", exponent(0), exponent(1))
        });
        let [dump, restore] = ours;
        println!(
            "| {kind} | {items} | {files} | {:.1} | {} | {} | {} | {} | {growth} | {} | {} |",
            bare.as_secs_f64() * 1e3,
            time(dump),
            time(restore),
            peak(dump),
            peak(restore),
            time(theirs[0]),
            time(theirs[1]),
        );
        before = Some((kind, items, ours));
    }
    Ok(ExitCode::SUCCESS)
}

fn time(cost: Option<Cost>) -> String {
    cost.map_or("-".to_owned(), |cost| format!("{:.1}", cost.time.as_secs_f64() * 1e3))
}

fn peak(cost: Option<Cost>) -> String {
    cost.map_or("-".to_owned(), |cost| format!("{:.1}", cost.peak as f64 / 1024.0))
}

/// The best of some rounds, with the bare calls' best.
fn best(exe: &Path, tool: &Path, size: (&str, u32, u32)) -> io::Result<(Duration, Costs)> {
    let mut best: (Duration, Costs) = (Duration::MAX, [None; 2]);
    for _ in 0..ROUNDS {
        let (bare, costs) = round(exe, tool, size)?;
        best.0 = best.0.min(bare);
        let failed = costs.iter().any(Option::is_none);
        for (best, cost) in best.1.iter_mut().zip(costs) {
            let better = best.is_none_or(|best| cost.is_some_and(|cost| cost.time < best.time));
            *best = if better { cost } else { *best };
        }
        if failed {
            break;
        }
    }
    Ok(best)
}

/// One target, dumped and restored.
fn round(
    exe: &Path,
    tool: &Path,
    (kind, items, files): (&str, u32, u32),
) -> io::Result<(Duration, Costs)> {
    let dir = std::env::temp_dir().join(format!("epoll-bench-{}", std::process::id()));
    fs::create_dir(&dir)?;
    let told = dir.join("told");
    let mut target = Command::new("setsid");
    target.arg(exe).args(["epoll-target", kind, &items.to_string(), &files.to_string()]);
    let mut target = target.arg(&told).stdin(Stdio::null()).stdout(Stdio::null());
    target = target.stderr(Stdio::null());
    let mut target = target.spawn()?;
    let result = measure(&mut target, tool, &dir, &told);
    // It has been killed by the dump and forked again by the restore, or is there still.
    Command::new("kill").args(["-9", &target.id().to_string()]).stderr(Stdio::null()).status()?;
    target.wait()?;
    fs::remove_dir_all(&dir)?;
    result
}

fn measure(
    target: &mut Child,
    tool: &Path,
    dir: &Path,
    told: &Path,
) -> io::Result<(Duration, Costs)> {
    while fs::metadata(told).map_or(0, |told| told.len()) == 0 {
        if let Some(status) = target.try_wait()? {
            return Err(io::Error::other(format!("the target ended: {status}")));
        }
        thread::sleep(Duration::from_millis(5));
    }
    let bare: u64 = fs::read_to_string(told)?.parse().map_err(io::Error::other)?;
    let pid = target.id().to_string();
    let images = dir.join("images");
    fs::create_dir(&images)?;
    let common = |verb: &str| -> Command {
        let mut command = Command::new(tool);
        command.arg(verb).arg("-D").arg(&images).args(["-o", &format!("{verb}.log")]);
        command
    };
    let dump = cost(common("dump").args(["-t", &pid]))?;
    if dump.is_none() {
        return Ok((Duration::from_micros(bare), [None; 2]));
    }
    // Its number has to be free.
    target.wait()?;
    let pidfile: PathBuf = dir.join("pidfile");
    let restore = cost(common("restore").arg("-d").arg("--pidfile").arg(pidfile))?;
    Ok((Duration::from_micros(bare), [dump, restore]))
}

/// Runs a command; nothing if it fails or takes too long.
fn cost(command: &mut Command) -> io::Result<Option<Cost>> {
    let began = Instant::now();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        peak = fs::read_to_string(&status).ok().and_then(|text| high_water(&text)).unwrap_or(peak);
        if began.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_micros(500));
    };
    let time = began.elapsed();
    Ok(ended.success().then_some(Cost { time, peak }))
}

fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
