//! A binary with CRIU's command line, driven as a subprocess and by nothing else.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{Failure, io_failure};

/// A program that dumps and restores.
#[derive(Clone, Debug)]
pub struct Checkpointer {
    /// `dormouse` or `criu`.
    pub name: &'static str,
    /// Its executable.
    pub program: PathBuf,
    /// The program that starts it: `dormouse-scenario`, which is an odd caller then.
    pub caller: Option<PathBuf>,
}

/// One invocation, not yet started.
pub struct Invocation {
    /// `NAME dump`, for messages.
    pub what: String,
    command: Command,
    log: PathBuf,
    output: PathBuf,
}

/// An invocation that runs.
pub struct Underway {
    what: String,
    child: Child,
    log: PathBuf,
    output: PathBuf,
    began: Instant,
}

/// An invocation that ended.
pub struct Ended {
    /// `NAME dump`, for messages.
    pub what: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it took.
    pub took: Duration,
    log: PathBuf,
    output: PathBuf,
}

/// What CRIU's restores change in every tree, by its own design.
const CRIU_DIFFERS: &[(&str, &str)] = &[
    ("*/ns/time", "CRIU puts a restored tree into a new time namespace"),
    ("*/children", "CRIU makes siblings in the opposite order"),
    MEMFD,
    ("*/timens_offsets", "CRIU makes the monotonic clocks go on from the dump"),
];

/// What CRIU's dumps change in every tree.
const CRIU_DUMPS_DIFFER: &[(&str, &str)] = &[MEMFD];

const MEMFD: (&str, &str) = (
    "*/map/*: was *\"*/dev/zero (deleted)*, is *\"*/memfd:*(deleted)*",
    "CRIU takes shared memory for a memfd, and makes it one",
);

/// Longer than any dump or restore of a scenario takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(150);

impl Checkpointer {
    /// `dump -t PID -D IMAGES -o dump.log -v4` and these options. What it prints goes to `output`.
    #[must_use]
    pub fn dump(&self, pid: i32, images: &Path, output: &Path, options: &[&str]) -> Invocation {
        let mut command = self.command();
        command.args(["dump", "-t", &pid.to_string()]);
        self.invocation("dump", command, images, output, options)
    }

    /// `restore -D IMAGES -d --pidfile F -o restore.log -v4` and these options.
    #[must_use]
    pub fn restore(
        &self,
        images: &Path,
        pidfile: &Path,
        output: &Path,
        options: &[&str],
    ) -> Invocation {
        let mut command = self.command();
        command.arg("restore").arg("-d").arg("--pidfile").arg(pidfile);
        self.invocation("restore", command, images, output, options)
    }

    /// The same, started by a caller that ignores signals, has set limits, priorities and what else
    /// a program hands down, as no restored process may get to see. `scenario` is the binary for that.
    #[must_use]
    pub fn called_oddly(&self, scenario: &Path) -> Self {
        Self { caller: Some(scenario.to_owned()), ..self.clone() }
    }

    fn command(&self) -> Command {
        match &self.caller {
            None => Command::new(&self.program),
            Some(caller) => {
                let mut command = Command::new(caller);
                command.arg("--oddly").arg(&self.program);
                command
            }
        }
    }

    /// Patterns of snapshot keys that its restores change in every tree, with the reason.
    #[must_use]
    pub fn differs(&self) -> &'static [(&'static str, &'static str)] {
        if self.name == "criu" { CRIU_DIFFERS } else { &[] }
    }

    /// Patterns of snapshot keys that its dumps change in every tree, with the reason.
    #[must_use]
    pub fn dumps_differ(&self) -> &'static [(&'static str, &'static str)] {
        if self.name == "criu" { CRIU_DUMPS_DIFFER } else { &[] }
    }

    fn invocation(
        &self,
        verb: &str,
        mut command: Command,
        images: &Path,
        output: &Path,
        options: &[&str],
    ) -> Invocation {
        let log = format!("{verb}.log");
        command.arg("-D").arg(images).args(["-o", &log, "-v4"]).args(options).stdin(Stdio::null());
        Invocation {
            what: format!("{} {verb}", self.name),
            command,
            log: images.join(log),
            output: output.join(format!("{verb}.out")),
        }
    }
}

impl Invocation {
    /// Starts it.
    ///
    /// # Errors
    /// The program cannot be run, or its output file not be made.
    pub fn start(mut self) -> Result<Underway, Failure> {
        let out = File::create(&self.output).map_err(io_failure("create", &self.output))?;
        let err = out.try_clone().map_err(io_failure("duplicate", &self.output))?;
        self.command.stdout(out).stderr(err);
        let child = self.command.spawn().map_err(io_failure("run", self.command.get_program()))?;
        Ok(Underway {
            what: self.what,
            child,
            log: self.log,
            output: self.output,
            began: Instant::now(),
        })
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// It cannot be started, or is not done in a minute and was killed.
    pub fn finish(self) -> Result<Ended, Failure> {
        self.start()?.wait()
    }

    /// Runs it; it must succeed.
    ///
    /// # Errors
    /// As [`Invocation::finish`], or it failed.
    pub fn succeed(self) -> Result<Ended, Failure> {
        let ended = self.finish()?;
        if ended.status.success() {
            Ok(ended)
        } else {
            Err(Failure::Command { command: ended.what, status: ended.status })
        }
    }

    /// Runs it; it must fail, and name these words in its output or log.
    ///
    /// # Errors
    /// It succeeded, which `why` says is wrong, or did not say enough.
    pub fn fail(self, why: &'static str, naming: &[String]) -> Result<Ended, Failure> {
        let ended = self.finish()?;
        if ended.status.success() {
            return Err(Failure::Succeeded { command: ended.what, why });
        }
        let said = ended.said();
        let missing: Vec<String> = naming.iter().filter(|w| !said.contains(*w)).cloned().collect();
        if missing.is_empty() {
            Ok(ended)
        } else {
            Err(Failure::Silent { command: ended.what, missing })
        }
    }
}

impl Underway {
    /// Waits for its end.
    ///
    /// # Errors
    /// It is not done in a minute; it was killed then.
    pub fn wait(mut self) -> Result<Ended, Failure> {
        while self.began.elapsed() < LIMIT {
            if let Some(status) =
                self.child.try_wait().map_err(io_failure("wait for", &self.what))?
            {
                return Ok(self.ended(status));
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.child.kill().map_err(io_failure("kill", &self.what))?;
        self.child.wait().map_err(io_failure("wait for", &self.what))?;
        Err(Failure::Late { step: "dump or restore", limit: LIMIT })
    }

    /// Lets it run for this long, then kills it with SIGKILL unless it is done.
    ///
    /// # Errors
    /// It cannot be killed or waited for.
    pub fn kill_after(mut self, time: Duration) -> Result<Ended, Failure> {
        thread::sleep(time.saturating_sub(self.began.elapsed()));
        self.child.kill().map_err(io_failure("kill", &self.what))?;
        let status = self.child.wait().map_err(io_failure("wait for", &self.what))?;
        Ok(self.ended(status))
    }

    fn ended(self, status: ExitStatus) -> Ended {
        Ended {
            what: self.what,
            status,
            took: self.began.elapsed(),
            log: self.log,
            output: self.output,
        }
    }
}

impl Ended {
    /// All it said, in its log and its output.
    #[must_use]
    pub fn said(&self) -> String {
        [&self.output, &self.log]
            .iter()
            .filter_map(|f| fs::read(f).ok())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .collect()
    }
}

/// The last lines of a file, or nothing if it is not there.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
