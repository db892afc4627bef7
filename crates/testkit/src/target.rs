//! A running scenario, seen from outside.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::failure::{Failure, io_failure};
use crate::snapshot::Snapshot;
use crate::subject::{Subject, User};

/// uid and gid of [`User::Ordinary`].
const ORDINARY: (u32, u32) = (18_943, 58_467);

/// How long a scenario may take to set up, and again to verify.
const LIMIT: Duration = Duration::from_secs(60);

/// How long killed processes may take to go away.
const GRACE: Duration = Duration::from_secs(5);

/// How often things are looked at.
const POLL: Duration = Duration::from_millis(2);

/// The process tree of one scenario.
pub struct Target {
    /// The root's pid, the same after every restore.
    pub root: i32,
    /// The scenario's state directory.
    pub dir: PathBuf,
    scenario: PathBuf,
}

impl Target {
    /// Starts the subject in a new directory under `dir` and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, or ends, or is not ready in a minute.
    pub fn start(subject: &Subject, scenario: &Path, dir: &Path) -> Result<Self, Failure> {
        let state = dir.join("state");
        fs::create_dir(&state).map_err(io_failure("create", &state))?;
        // Tasks of the scenario may become other users than the one it starts as.
        fs::set_permissions(&state, fs::Permissions::from_mode(0o777))
            .map_err(io_failure("open up", &state))?;
        let log = |name: &str| {
            let path = state.join(name);
            File::options()
                .append(true)
                .create(true)
                .open(&path)
                .map_err(io_failure("create", path))
        };
        let mut command = Command::new(scenario);
        command
            .args([subject.facts.name.as_str(), &state.to_string_lossy()])
            .env_clear()
            .env("DORMOUSE_SCENARIO", &subject.facts.name)
            .env("PATH", "/usr/bin:/bin")
            .current_dir(&state)
            .stdin(Stdio::null())
            .stdout(log("out")?)
            .stderr(log("err")?);
        if subject.user == User::Ordinary {
            command.arg("ordinary");
            for path in [&state, &state.join("out"), &state.join("err")] {
                chown(path, Some(ORDINARY.0), Some(ORDINARY.1))
                    .map_err(io_failure("give away", path))?;
            }
        }
        if subject.user == User::Odd {
            command.arg("oddly");
        }
        let child = command.spawn().map_err(io_failure("run", scenario))?;
        // From here on it is known by its pid alone, like all that a restore brings back.
        let target = Self { root: child.id() as i32, dir: state, scenario: scenario.to_owned() };
        let ready = target.dir.join("ready");
        target.until("getting ready", || ready.exists())?;
        Ok(target)
    }

    /// Looks at the tree.
    ///
    /// # Errors
    /// A process of it went away meanwhile.
    pub fn snapshot(&self) -> Result<Snapshot, Failure> {
        Snapshot::take(self.root, &self.scenario)
    }

    /// Fails unless the tree is what it was, or becomes so within `grace`: what a killed
    /// checkpointer left in it may need a moment to undo itself.
    ///
    /// # Errors
    /// It stays different.
    pub fn must_equal(
        &self,
        before: &Snapshot,
        when: &'static str,
        except: &[(String, String)],
        grace: Duration,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            let seen = self.snapshot().map(|now| before.differences(&now, except));
            if self.is_alive() && seen.as_ref().is_ok_and(Vec::is_empty) {
                return Ok(());
            }
            if began.elapsed() >= grace {
                return Err(Failure::Differs { when, differences: seen? });
            }
            thread::sleep(10 * POLL);
        }
    }

    /// Is the whole tree there, as it was, or nothing of it? What is neither may become so within
    /// a few seconds.
    ///
    /// # Errors
    /// It stays neither.
    pub fn whole_or_nothing(
        &self,
        before: &Snapshot,
        when: &'static str,
        except: &[(String, String)],
    ) -> Result<bool, Failure> {
        let began = Instant::now();
        loop {
            let left = others(&[])?;
            if left.is_empty() {
                return Ok(false);
            }
            let seen = self.snapshot().map(|now| before.differences(&now, except));
            if self.is_alive() && seen.as_ref().is_ok_and(Vec::is_empty) {
                return Ok(true);
            }
            if began.elapsed() >= GRACE {
                if let Ok(differences) = seen
                    && self.is_alive()
                {
                    return Err(Failure::Differs { when, differences });
                }
                return Err(Failure::Left { when, left: left.into_iter().map(describe).collect() });
            }
            thread::sleep(POLL);
        }
    }

    /// Tells the scenario to go on, waits for its end and judges its verdict.
    ///
    /// # Errors
    /// Its verdict is not `ok`, it did not end, or left processes behind.
    pub fn judge(&self, frozen: Duration) -> Result<(), Failure> {
        let staged = self.dir.join(".go");
        fs::write(&staged, format!("{}\n", frozen.as_micros()))
            .map_err(io_failure("write", &staged))?;
        fs::rename(&staged, self.dir.join("go")).map_err(io_failure("rename", &staged))?;
        let verdict = self.dir.join("verdict");
        let ended = self.until("verifying", || verdict.exists());
        let text = fs::read_to_string(&verdict).unwrap_or_default();
        match (ended, text.trim()) {
            (_, "ok") => {}
            (Err(failure), "") => return Err(failure),
            (_, wrong) => return Err(Failure::Verdict(wrong.to_owned())),
        }
        none_left("after the verdict", &[])
    }

    /// Fails unless all these processes are gone or go in a few seconds.
    ///
    /// # Errors
    /// Some stay.
    pub fn must_be_gone(&self, pids: &[i32], when: &'static str) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            let left: Vec<i32> = pids.iter().copied().filter(|&p| !reap(p) && exists(p)).collect();
            if left.is_empty() {
                return Ok(());
            }
            if began.elapsed() >= GRACE {
                return Err(Failure::Left { when, left: left.into_iter().map(describe).collect() });
            }
            thread::sleep(POLL);
        }
    }

    /// Kills all these processes and waits until they are gone.
    ///
    /// # Errors
    /// Some stay.
    pub fn kill(&self, pids: &[i32]) -> Result<(), Failure> {
        for pid in pids.iter().filter_map(|&p| Pid::from_raw(p)) {
            // It may have ended by itself, or with its parent.
            let _ = kill_process(pid, Signal::KILL);
        }
        self.must_be_gone(pids, "after SIGKILL")
    }

    /// Is the root there, and not a zombie?
    #[must_use]
    pub fn is_alive(&self) -> bool {
        state(self.root).is_some_and(|s| s != 'Z' && s != 'X')
    }

    fn until(&self, step: &'static str, mut holds: impl FnMut() -> bool) -> Result<(), Failure> {
        let began = Instant::now();
        while !holds() {
            let pid = Pid::from_raw(self.root);
            if let Ok(Some((_, status))) = waitpid(pid, WaitOptions::NOHANG)
                && !holds()
            {
                return Err(Failure::Ended { step, status: format!("{status:?}") });
            }
            if began.elapsed() >= LIMIT {
                return Err(Failure::Late { step, limit: LIMIT });
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

/// Fails if, in this pen, there are other processes than this one and the expected.
///
/// # Errors
/// Some stay for seconds.
pub fn none_left(when: &'static str, expected: &[i32]) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let left = others(expected)?;
        if left.is_empty() {
            return Ok(());
        }
        if began.elapsed() >= GRACE {
            return Err(Failure::Left { when, left: left.into_iter().map(describe).collect() });
        }
        thread::sleep(POLL);
    }
}

/// The processes in this pen that are neither this one nor expected.
fn others(expected: &[i32]) -> Result<Vec<i32>, Failure> {
    let me = std::process::id() as i32;
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").map_err(io_failure("list", "/proc"))? {
        let name = entry.map_err(io_failure("list", "/proc"))?.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        if pid != me && !expected.contains(&pid) && !reap(pid) && exists(pid) {
            left.push(pid);
        }
    }
    Ok(left)
}

/// Takes a zombie child of this process away; `false` if there is none of this pid.
fn reap(pid: i32) -> bool {
    matches!(waitpid(Pid::from_raw(pid), WaitOptions::NOHANG), Ok(Some(_)))
}

fn exists(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn describe(pid: i32) -> String {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("{pid} ({}) {}", comm.trim(), state(pid).unwrap_or('?'))
}
