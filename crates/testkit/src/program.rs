//! Real programs, frozen and brought back several times, judged by their result: it must be, byte
//! for byte, that of an undisturbed run.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, waitpid};

use crate::binaries::Binaries;
use crate::cases::{self, Case, Lacks};
use crate::checkpointer::Checkpointer;
use crate::failure::{Failure, io_failure};
use crate::target::none_left;

/// A real program with its input.
pub struct Program {
    /// Its name as a test.
    pub name: &'static str,
    /// Executables that must be on the machine, in `/usr/bin`.
    pub tools: &'static [&'static str],
    /// Kinds of state beyond the foundation's that it is made of.
    pub needs: &'static [&'static str],
    /// Options for the checkpointer.
    pub options: &'static [&'static str],
    /// Files it finds in its directory.
    pub files: &'static [(&'static str, &'static str)],
    /// What is done before the clock starts, in a shell: compile, generate. May be empty.
    pub prepare: &'static str,
    /// The program itself: the script of a shell, which is the root of the tree. It runs for some
    /// seconds, and its standard output is the result.
    /// `EXAMPLES` is where cargo has put the examples of this package.
    pub script: &'static str,
}

/// How often a program is frozen unless `DORMOUSE_FREEZES` says otherwise.
const FREEZES: u32 = 10;

/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(100);

/// The `main` of a test executable over these programs, see [`cases::main`].
#[must_use]
pub fn main(scenario: &Path, programs: &[Program], lacks: Lacks<'_>) -> ExitCode {
    run_all(scenario, programs, |program| program, Program::run, lacks)
}

/// The `main` over things that are tested with a program each.
pub(crate) fn run_all<T>(
    scenario: &Path,
    all: &[T],
    program: fn(&T) -> &Program,
    run: fn(&T, &Path, &Checkpointer, &Path) -> Result<(), Failure>,
    lacks: Lacks<'_>,
) -> ExitCode {
    let binaries = Binaries::find(scenario);
    let case = |one| {
        let program = program(one);
        let skip = cases::skip_all()
            .or_else(|| program.missing())
            .or_else(|| cases::skip(program.name, program.needs, &binaries, lacks));
        let under_test = binaries.under_test.as_ref();
        let run = move |dir: &Path| match under_test {
            Ok(checkpointer) => run(one, scenario, checkpointer, dir),
            Err(missing) => Err(io_failure("find", "the checkpointer")(std::io::Error::other(
                missing.to_string(),
            ))),
        };
        Case { name: program.name.to_owned(), skip, run: Box::new(run) }
    };
    cases::main(&all.iter().map(case).collect::<Vec<_>>())
}

/// The program is done.
struct Ended;

/// A run of a program under way.
pub(crate) struct Running {
    pub(crate) root: i32,
    dir: PathBuf,
    began: Instant,
    /// What it was held up for.
    held: Duration,
}

impl Program {
    fn missing(&self) -> Option<String> {
        let there =
            |tool: &str| ["/usr/bin", "/usr/sbin"].iter().any(|d| Path::new(d).join(tool).exists());
        let missing = self.tools.iter().find(|tool| !there(tool));
        missing.map(|tool| format!("{tool} is not installed"))
    }

    fn run(&self, scenario: &Path, checkpointer: &Checkpointer, dir: &Path) -> Result<(), Failure> {
        let mut undisturbed = self.start(scenario, &dir.join("undisturbed"), &[])?;
        let expected = undisturbed.finish()?;
        let whole = undisturbed.began.elapsed();
        eprintln!("{}: {} bytes of result after {whole:?}, undisturbed", self.name, expected.len());

        let freezes = freezes();
        let mut running = self.start(scenario, &dir.join("frozen"), &[])?;
        for number in 1..=freezes {
            let moment = whole * number / (freezes + 1);
            match running.live_until(moment) {
                Ok(()) => {}
                // On a machine with other work the undisturbed run may have been the slower one.
                Err(Ended) if number > 1 => break,
                Err(Ended) => {
                    return Err(Failure::Late { step: "the first freeze", limit: moment });
                }
            }
            let images = dir.join(format!("images-{number}"));
            match running.freeze(checkpointer, &images, self.options, &[]) {
                // It has come to its end between being looked at and being frozen.
                Err(Failure::Command { .. }) if number > 1 && running.is_over() => break,
                frozen => frozen?,
            }
            // They can be large.
            fs::remove_dir_all(&images).map_err(io_failure("remove", &images))?;
        }
        let found = running.finish()?;
        if found != expected {
            let at = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
            let (found, expected) = (found.len(), expected.len());
            return Err(Failure::Verdict(format!(
                "the result differs at byte {at}: {found} bytes, {expected} when undisturbed"
            )));
        }
        Ok(())
    }

    /// Prepares a directory and starts the program in it, with these variables in its environment.
    pub(crate) fn start(
        &self,
        scenario: &Path,
        dir: &Path,
        env: &[(&str, &str)],
    ) -> Result<Running, Failure> {
        fs::create_dir(dir).map_err(io_failure("create", dir))?;
        for (name, text) in self.files {
            let path = dir.join(name);
            fs::write(&path, text).map_err(io_failure("write", path))?;
        }
        let examples = scenario.with_file_name("examples");
        let env: Vec<_> = [("EXAMPLES", examples.to_str().expect("cargo's paths are text"))]
            .iter()
            .chain(env)
            .copied()
            .collect();
        let shell = |command, script| shell(command, script, dir, &env, ["out", "err"]);
        let prepared = shell(Command::new("bash"), self.prepare)?.status();
        let prepared = prepared.map_err(io_failure("run", "bash"))?;
        if !prepared.success() {
            return Err(Failure::Command { command: "preparing".into(), status: prepared });
        }
        // A session of its own, without the descriptors somebody left open to the tests.
        let mut alone = Command::new(scenario);
        alone.args(["--exec", "bash"]);
        let child = shell(alone, self.script)?.spawn().map_err(io_failure("run", scenario))?;
        let root = child.id() as i32;
        Ok(Running { root, dir: dir.to_owned(), began: Instant::now(), held: Duration::ZERO })
    }
}

/// Has a shell run a script in a directory, and write to two files there.
pub(crate) fn shell(
    mut command: Command,
    script: &str,
    dir: &Path,
    env: &[(&str, &str)],
    [out, err]: [&str; 2],
) -> Result<Command, Failure> {
    let file = |name: &str| {
        let path = dir.join(name);
        let file = File::options().append(true).create(true).open(&path);
        file.map_err(io_failure("create", path))
    };
    command
        .args(["-c", script])
        .env_clear()
        .envs([("PATH", "/usr/bin:/bin:/usr/sbin:/sbin"), ("HOME", "/nonexistent")])
        .env("LANG", "C.UTF-8")
        .envs(env.iter().copied())
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(file(out)?)
        .stderr(file(err)?);
    Ok(command)
}

/// How often a program is frozen.
pub(crate) fn freezes() -> u32 {
    env::var("DORMOUSE_FREEZES").ok().and_then(|n| n.parse().ok()).unwrap_or(FREEZES)
}

impl Running {
    /// Lets it run until it has run this long; fails if it ends before.
    fn live_until(&self, moment: Duration) -> Result<(), Ended> {
        while self.began.elapsed() < moment + self.held {
            if self.is_over() {
                return Err(Ended);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Has the root ended? It is not waited for yet.
    pub(crate) fn is_over(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.root)).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
    }

    /// Freezes it to `images`, and brings it back. Only `others` are there in between.
    pub(crate) fn freeze(
        &mut self,
        checkpointer: &Checkpointer,
        images: &Path,
        options: &[&str],
        others: &[i32],
    ) -> Result<(), Failure> {
        fs::create_dir(images).map_err(io_failure("create", images))?;
        let logs = images.with_file_name("logs");
        fs::create_dir_all(&logs).map_err(io_failure("create", &logs))?;
        let began = Instant::now();
        checkpointer.dump(self.root, images, &logs, options).succeed()?;
        none_left("after dump", others)?;
        let pidfile = images.join("pidfile");
        checkpointer.restore(images, &pidfile, &logs, options).succeed()?;
        self.held += began.elapsed();
        Ok(())
    }

    /// Waits for its end, which must be a good one; returns its result.
    fn finish(&mut self) -> Result<Vec<u8>, Failure> {
        loop {
            let end = waitpid(Pid::from_raw(self.root), WaitOptions::NOHANG).ok().flatten();
            match end.map(|(_, status)| status) {
                Some(status) if status.exit_status() == Some(0) => break,
                Some(status) => {
                    return Err(Failure::Ended {
                        step: "running to the end",
                        status: format!("{status:?}"),
                    });
                }
                None if self.began.elapsed() > LIMIT + self.held => {
                    return Err(Failure::Late { step: "running to the end", limit: LIMIT });
                }
                None => thread::sleep(Duration::from_millis(5)),
            }
        }
        none_left("after the program's end", &[])?;
        let out = self.dir.join("out");
        fs::read(&out).map_err(io_failure("read", out))
    }
}
