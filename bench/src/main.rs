//! What dumps and restores cost: workloads of growing size, dumped and restored
//! turn by turn by dormouse and CRIU, beside the bare work.
//!
//! `cargo run --release -p dormouse-bench -- --criu PATH` measures everything;
//! with `--write` it makes `docs/performance.md` with its plots and figures.
//!
//! One run: the workload starts in a pid namespace of this program's own, is
//! dumped, restored, told to go on, and checks its whole state. Times are those
//! of whole commands; figures are medians over the runs.

#![forbid(unsafe_code)]

mod case;
mod command;
mod figures;
mod plot;
mod report;
mod run;

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Parser;

/// Tells this program that it is the first process of its pid namespace.
const INSIDE: &str = "DORMOUSE_BENCH_INSIDE";

/// Measures what dumps and restores cost.
#[derive(Parser, Debug)]
struct Args {
    /// A CRIU to measure beside dormouse.
    #[arg(long, value_name = "PATH")]
    criu: Option<PathBuf>,
    /// How often each is run.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Only these workloads, all sizes or one: `mem`, `procs-500`.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Where images and files of the workloads go: a tmpfs.
    #[arg(long, default_value = "/dev/shm", value_name = "DIR")]
    dir: PathBuf,
    /// Write `docs/performance.md`, its plots and `docs/performance.json`.
    #[arg(long)]
    write: bool,
}

/// Why nothing, or not all, could be measured.
#[derive(thiserror::Error, Debug)]
enum BenchError {
    #[error("cannot {doing}")]
    Io {
        doing: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot {doing}: it ended with {status}")]
    Command { doing: &'static str, status: std::process::ExitStatus },
    #[error("dormouse failed: {}", .0.join("; "))]
    Failed(Vec<String>),
    #[error("cannot draw a plot: {0}")]
    Plot(String),
}

fn io(doing: &'static str) -> impl Fn(std::io::Error) -> BenchError {
    move |source| BenchError::Io { doing, source }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = if env::var_os(INSIDE).is_some() { measure(&args) } else { enter() };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dormouse-bench: {error}");
            if let Some(source) = std::error::Error::source(&error) {
                eprintln!("  {source}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Builds what is measured, and runs this program again as the first process
/// of a pid namespace: no pid is taken there, and nothing outlives it.
fn enter() -> Result<(), BenchError> {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--release", "-p", "dormouse", "-p", "dormouse-scenarios"]);
    succeed("build dormouse", &mut build)?;
    let mut inside = Command::new("unshare");
    inside
        .args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--"])
        .arg(env::current_exe().map_err(io("find this program"))?)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1");
    succeed("measure in a pid namespace", &mut inside)
}

fn succeed(doing: &'static str, command: &mut Command) -> Result<(), BenchError> {
    let status = command.status().map_err(io(doing))?;
    if status.success() { Ok(()) } else { Err(BenchError::Command { doing, status }) }
}

fn measure(args: &Args) -> Result<(), BenchError> {
    let exe = env::current_exe().map_err(io("find this program"))?;
    let bench = run::Bench {
        dormouse: exe.with_file_name("dormouse"),
        scenario: exe.with_file_name("dormouse-scenario"),
        criu: args.criu.clone(),
        dir: args.dir.clone(),
        runs: args.runs,
    };
    let mut rows = Vec::new();
    let mut failed = Vec::new();
    for case in case::ALL.iter().filter(|case| case.is_chosen(&args.only)) {
        let row = bench.measure(case)?;
        eprintln!("{}", report::line(&row));
        if let Err(reason) = &row.dormouse {
            failed.push(format!("{}: {reason}", case.name()));
        }
        rows.push(row);
    }
    println!("{}", report::table(&rows));
    if args.write {
        report::write(&rows, args.runs)?;
    }
    if failed.is_empty() { Ok(()) } else { Err(BenchError::Failed(failed)) }
}
