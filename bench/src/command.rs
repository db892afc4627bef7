//! One command, measured from outside.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use wait4::{ResUse, Wait4};

/// Longer than any command takes that is worth waiting for.
const LIMIT: Duration = Duration::from_secs(120);

/// What a command took.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) status: ExitStatus,
    pub(crate) time: Duration,
    /// Its peak memory in bytes (`ru_maxrss`, getrusage(2)).
    pub(crate) peak: u64,
}

/// Runs the command to its end, or kills it when that takes too long. What it
/// says goes to the file.
pub(crate) fn run(command: &mut Command, output: &Path) -> io::Result<Taken> {
    let out = File::create(output)?;
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    let began = Instant::now();
    let mut child = command.spawn()?;
    let pid = child.id();
    let (tell, hear) = channel::<()>();
    let guard = thread::spawn(move || {
        if hear.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout)
            && let Some(pid) = pid.try_into().ok().and_then(rustix::process::Pid::from_raw)
        {
            // It may have ended by itself just now.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    });
    let ended = child.wait4();
    let time = began.elapsed();
    drop(tell);
    // It has nothing to tell.
    let _ = guard.join();
    let ResUse { status, rusage } = ended?;
    Ok(Taken { status, time, peak: rusage.maxrss })
}

/// Has `perf` count the command's system calls and what it waits for; `None`
/// where it cannot.
pub(crate) fn counted(program: &Path, args: &[&str], output: &Path) -> Option<Counts> {
    const EVENTS: &str = "raw_syscalls:sys_enter,syscalls:sys_exit_wait4,syscalls:sys_exit_waitid";
    let counts = output.with_extension("counts");
    let mut command = Command::new("perf");
    command.args(["stat", "-x,", "-e", EVENTS, "-o"]).arg(&counts).arg("--");
    command.arg(program).args(args);
    let taken = run(&mut command, output).ok()?;
    let text = std::fs::read_to_string(counts).ok().filter(|_| taken.status.success())?;
    let count = |event: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.contains(event))?;
        line.split(',').next()?.parse().ok()
    };
    Some(Counts {
        syscalls: count("sys_enter")?,
        waits: count("sys_exit_wait4")? + count("sys_exit_waitid")?,
    })
}

/// What a command did, whatever the machine was doing besides.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Counts {
    /// System calls of it, its threads and its children.
    pub(crate) syscalls: u64,
    /// How often it waited for a task to stop.
    pub(crate) waits: u64,
}
