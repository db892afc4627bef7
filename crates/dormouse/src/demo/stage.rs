//! Where the demo plays: a directory, the program in it, and the commands that
//! are run on it.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fmt};

use dormouse_kernel::FdNum;
use dormouse_kernel::close_on_exec::close_on_exec_from;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, set_child_subreaper, wait, waitpid,
};
use tempfile::TempDir;

use super::{PROGRAM, size_of};
use crate::failure::Failure;

/// How long the program may take for a step before the demo gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The option to freeze connections with.
const TCP_ESTABLISHED: &str = "--tcp-established";

/// Why the demo did not show what it is to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// The operating system's fault.
    #[error("cannot {doing}")]
    Io {
        /// A verb and an object.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A command that was run failed, and has said why.
    #[error("`{command}` failed")]
    Command {
        /// The command.
        command: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// The program ended before it was frozen.
    #[error("the program ended too early")]
    Early,
    /// The program did not get on.
    #[error("the program does not get on")]
    Stuck,
    /// The program is there after the dump.
    #[error("the program is still there after it was dumped")]
    StillThere,
    /// An answer was another than it would have been.
    #[error("the program did not go on as it would have")]
    Changed,
    /// The program ended badly.
    #[error("the program ended badly after it was restored ({0})")]
    Ended(Ending),
}

/// How the restored program ended.
#[derive(Debug)]
pub(crate) struct Ending(WaitStatus);

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.exit_status(), self.0.terminating_signal()) {
            (Some(status), _) => write!(f, "status {status}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => f.write_str("unknown"),
        }
    }
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |source| DemoError::Io { doing, source }.into()
}

/// The directory and the program. Both are gone when it is dropped.
#[derive(Debug)]
pub(super) struct Stage {
    directory: TempDir,
    keep: bool,
    root: Option<Pid>,
}

impl Stage {
    /// Makes the directory. Processes of the program whose parent has died
    /// become this process's children: so they can be waited for, and their
    /// pids are free before they are to come back.
    pub(super) fn set(keep: bool) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new()
            .prefix("dormouse-demo-")
            .tempdir()
            .map_err(failed("make a directory"))?;
        fs::create_dir(directory.path().join("images")).map_err(failed("make a directory"))?;
        // The program is to have nothing that its parent happens to have.
        close_on_exec_from(FdNum::from_raw(3))
            .map_err(|e| failed("keep descriptors from the program")(e.into()))?;
        set_child_subreaper(Some(getpid()))
            .map_err(|e| failed("become the parent of orphans")(e.into()))?;
        Ok(Self { directory, keep, root: None })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts the program.
    pub(super) fn start(&mut self) -> Result<(), Failure> {
        let create = |name| File::create(self.path(name)).map_err(failed("make a file"));
        let child = Command::new(env::current_exe().map_err(failed("find this program"))?)
            .args([PROGRAM, "server"])
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(create("output")?)
            .stderr(create("errors")?)
            .spawn()
            .map_err(failed("start the program"))?;
        self.root = Pid::from_raw(child.id().cast_signed());
        Ok(())
    }

    fn root(&self) -> Pid {
        self.root.expect("the program was started")
    }

    /// Where the server listens, when it does.
    pub(super) fn address(&self) -> Result<SocketAddr, Failure> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let output = fs::read_to_string(self.path("output"));
            let output = output.map_err(failed("read what the program wrote"))?;
            if let Some((address, _)) = output.split_once('\n') {
                return address.parse().map_err(|_| DemoError::Early.into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(DemoError::Stuck.into())
    }

    /// The processes of the program, its root first. It listens, so all are there.
    pub(super) fn pids(&self) -> Result<Vec<u32>, Failure> {
        let root = self.root().as_raw_nonzero().get().cast_unsigned();
        let children = fs::read_dir(format!("/proc/{root}/task"))
            .and_then(|tasks| {
                tasks.map(|task| fs::read_to_string(task?.path().join("children"))).collect()
            })
            .map_err(failed("list the program's processes"))?;
        let children: Vec<String> = children;
        let children = children.iter().flat_map(|pids| pids.split_ascii_whitespace());
        Ok(std::iter::once(root).chain(children.filter_map(|pid| pid.parse().ok())).collect())
    }

    /// How many threads these processes have.
    pub(super) fn threads(&self, pids: &[u32]) -> Result<usize, Failure> {
        pids.iter().try_fold(0, |sum, pid| {
            let tasks = fs::read_dir(format!("/proc/{pid}/task"))
                .map_err(failed("list the program's threads"))?;
            Ok(sum + tasks.count())
        })
    }

    /// Runs `dormouse dump`; when it returns, the program is gone and buried.
    pub(super) fn dump(
        &mut self,
        announce: &mut dyn FnMut(&str) -> Result<(), Failure>,
    ) -> Result<Duration, Failure> {
        let root = self.root().as_raw_nonzero().to_string();
        let images = self.path("images");
        let images = images.to_string_lossy();
        let start = Instant::now();
        let words = ["dump", "-t", &root, "-D", &images, TCP_ESTABLISHED, "-o", "dump.log", "-v3"];
        run(&words, announce)?;
        let took = start.elapsed();
        // The root, and its workers, which have become our children with its death.
        while let Ok(Some(_)) = wait(WaitOptions::empty()) {}
        self.root = None;
        Ok(took)
    }

    /// How many image files there are, and their size in bytes.
    pub(super) fn images(&self) -> Result<(usize, u64), Failure> {
        size_of(&self.path("images")).map_err(failed("list the images"))
    }

    /// Runs `dormouse show`.
    pub(super) fn show(
        &self,
        announce: &mut dyn FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        run(&["show", &self.path("images").to_string_lossy()], announce)
    }

    /// Runs `dormouse restore`.
    pub(super) fn restore(
        &mut self,
        announce: &mut dyn FnMut(&str) -> Result<(), Failure>,
    ) -> Result<Duration, Failure> {
        let images = self.path("images");
        let start = Instant::now();
        let words = [
            "restore",
            "-d",
            "-D",
            &images.to_string_lossy(),
            TCP_ESTABLISHED,
            "-o",
            "restore.log",
            "-v3",
            "--pidfile",
            "pid",
        ];
        run(&words, announce)?;
        let took = start.elapsed();
        let pid = fs::read_to_string(images.join("pid")).map_err(failed("read the pidfile"))?;
        self.root = pid.trim_end().parse().ok().and_then(Pid::from_raw);
        Ok(took)
    }

    /// Waits for the end of the program, which must be a good one. The command
    /// that restored it has ended, so it is our child.
    pub(super) fn wait_for_end(&mut self) -> Result<(), Failure> {
        let root = self.root();
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let status = waitpid(Some(root), WaitOptions::NOHANG)
                .map_err(|e| failed("wait for the program")(e.into()))?;
            match status {
                Some((_, status)) => {
                    self.root = None;
                    return match status.exit_status() {
                        Some(0) => Ok(()),
                        _ => Err(DemoError::Ended(Ending(status)).into()),
                    };
                }
                None => thread::sleep(Duration::from_millis(10)),
            }
        }
        Err(DemoError::Stuck.into())
    }

    /// Where the images stay, if they are to.
    pub(super) fn keep_images(&mut self) -> Option<PathBuf> {
        self.keep.then(|| {
            self.directory.disable_cleanup(true);
            self.path("images")
        })
    }
}

impl Drop for Stage {
    /// Ends the program; its workers end with their pipes.
    fn drop(&mut self) {
        if let Some(root) = self.root.take() {
            // It may have ended already: then there is nothing to do.
            let _ = kill_process(root, Signal::KILL);
        }
        while let Ok(Some(_)) = wait(WaitOptions::empty()) {}
    }
}

/// Runs a command of this program's, which tells of its failures itself.
fn run(
    words: &[&str],
    announce: &mut dyn FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let command = format!("dormouse {}", words.join(" "));
    announce(&command)?;
    let program = env::current_exe().map_err(failed("find this program"))?;
    let status = Command::new(program)
        .arg(words[0])
        .arg("--no-default-config")
        .args(&words[1..])
        .env_remove("CRIU_CONFIG_FILE")
        .status()
        .map_err(failed("run a command"))?;
    if status.success() { Ok(()) } else { Err(DemoError::Command { command, status }.into()) }
}
