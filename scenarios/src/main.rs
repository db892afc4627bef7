//! `dormouse-scenario NAME STATE_DIR [ordinary|oddly]`, `--list [TEST]`, `--probe PID...`, `--exec PROGRAM ARG...`,
//! `--oddly PROGRAM ARG...`, `--exec-storm`, `--worlds DIR`, `--fd-worlds DIR`, `--product DIR`, `--workload NAME SIZE STATE_DIR`,
//! `--limit NAME SIZE STATE_DIR`.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use dormouse_scenarios::workloads::{self, Limit, Workload};
use dormouse_scenarios::{Context, User, exec_storm, odd_caller, odd_root, probe, registry};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["--list"] => {
            registry::ALL.iter().for_each(|s| println!("{s}"));
            ExitCode::SUCCESS
        }
        ["--list", test] => {
            let tested = registry::ALL.iter().filter(|s| s.is_tested_by(test));
            tested.for_each(|s| println!("{s}"));
            ExitCode::SUCCESS
        }
        ["--probe", ref pids @ ..] => match probe::print(pids) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("dormouse-scenario: {error}");
                ExitCode::FAILURE
            }
        },
        ["--worlds", dir] => {
            dormouse_scenarios::worlds::run(Path::new(dir));
            ExitCode::SUCCESS
        }
        ["--fd-worlds", dir] => {
            dormouse_scenarios::fd_worlds::run(Path::new(dir));
            ExitCode::SUCCESS
        }
        ["--product", dir] => {
            dormouse_scenarios::product::run(Path::new(dir));
            ExitCode::SUCCESS
        }
        ["--exec", program, ref args @ ..] => {
            dormouse_scenarios::begin(User::Root);
            let error = Command::new(program).args(args).exec();
            eprintln!("dormouse-scenario: {program}: {error}");
            ExitCode::FAILURE
        }
        [odd_caller::WORD, program, ref args @ ..] => {
            let error = odd_caller::run(program, args);
            eprintln!("dormouse-scenario: {program}: {error}");
            ExitCode::FAILURE
        }
        [exec_storm::WORD] => {
            eprintln!("dormouse-scenario: {}", exec_storm::run());
            ExitCode::FAILURE
        }
        ["--workload", name, size, dir] => work(name, size, |workload, size| {
            let mut cx = Context::new(Path::new(dir), User::Root);
            dormouse_scenarios::begin(User::Root);
            workload.run(&mut cx, size);
            judge(&cx)
        }),
        ["--limit", name, size, dir] => work(name, size, |workload, size| {
            let cx = Context::new(Path::new(dir), User::Root);
            if let Some(Limit { dump, restore }) = workload.limit(&cx, size) {
                let dump = dump.map_or("-".into(), |time| time.as_micros().to_string());
                println!("{dump} {}", restore.as_micros());
            }
            ExitCode::SUCCESS
        }),
        [name, dir] => play(name, Path::new(dir), (User::Root, false)),
        [name, dir, "ordinary"] => play(name, Path::new(dir), (User::Ordinary, false)),
        [name, dir, odd_root::WORD] => play(name, Path::new(dir), (User::Root, true)),
        _ => {
            eprintln!(
                "usage: dormouse-scenario NAME STATE_DIR [ordinary|oddly] | --list [TEST] | --probe PID... | --exec PROGRAM ARG... | --oddly PROGRAM ARG... | --exec-storm | --workload NAME SIZE STATE_DIR | --limit NAME SIZE STATE_DIR"
            );
            ExitCode::FAILURE
        }
    }
}

fn play(name: &str, dir: &Path, (user, oddly): (User, bool)) -> ExitCode {
    let Some(scenario) = registry::ALL.iter().find(|s| s.name() == name) else {
        eprintln!("dormouse-scenario: no scenario {name}");
        return ExitCode::FAILURE;
    };
    let mut cx = Context::new(dir, user);
    match oddly {
        true => dormouse_scenarios::begin_oddly(user, dir),
        false => dormouse_scenarios::begin(user),
    }
    scenario.run(&mut cx);
    judge(&cx)
}

/// Carries something out with the workload of this name.
fn work(name: &str, size: &str, with: impl FnOnce(&Workload, usize) -> ExitCode) -> ExitCode {
    let workload = workloads::ALL.iter().find(|workload| workload.name == name);
    let (Some(workload), Ok(size)) = (workload, size.parse()) else {
        eprintln!("dormouse-scenario: no workload {name} {size}");
        return ExitCode::FAILURE;
    };
    with(workload, size)
}

fn judge(cx: &Context) -> ExitCode {
    let verdict = cx.verdict();
    cx.publish("verdict", &verdict);
    if verdict == "ok" { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
