//! Pid, mount, network and IPC namespaces for every test.
//!
//! The test's own executable is run again inside them, as the pid namespace's
//! first process: it adopts every orphan, sees in `/proc` exactly what the test
//! started, and when it ends the kernel kills what is left. So a test neither
//! leaks processes nor takes the pids, ports, addresses, terminals and queues
//! another one is about to restore.

use std::env;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The variable that tells a process inside which test it is to run.
const TEST: &str = "DORMOUSE_PEN_TEST";
/// The variable that tells it the directory it may use.
const DIR: &str = "DORMOUSE_PEN_DIR";

/// What a process inside a pen has been started for.
pub struct Inside {
    /// The test's name.
    pub test: String,
    /// An empty directory, removed afterwards; everyone may enter it.
    pub dir: std::path::PathBuf,
}

/// Is this process the first of a pen?
#[must_use]
pub fn inside() -> Option<Inside> {
    Some(Inside { test: env::var(TEST).ok()?, dir: env::var_os(DIR)?.into() })
}

/// Why a pen's test did not pass.
#[derive(thiserror::Error, Debug)]
pub enum PenError {
    /// The pen could not be made.
    #[error("cannot {operation}: {source}")]
    Broken {
        /// What could not be done.
        operation: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The test failed; what it said.
    #[error("{said}")]
    Failed {
        /// Its output.
        said: String,
    },
    /// The test was killed at its time limit.
    #[error("no end after {limit:?}; killed with all it had started\n{said}")]
    Late {
        /// The limit.
        limit: Duration,
        /// Its output so far.
        said: String,
    },
}

/// Brings the loopback interface up, which a new network namespace has down, and mounts terminals:
/// these are numbered for each mount of their file system, and a test that restores number 3 must
/// not meet another that has it.
const PREPARE: &str = "ip link set lo up && \
    mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts /dev/pts && exec \"$0\"";

/// Runs the named test in a pen of its own.
///
/// # Errors
/// It failed, or took longer than `limit`.
pub fn run(test: &str, limit: Duration) -> Result<(), PenError> {
    let broken = |operation| move |source| PenError::Broken { operation, source };
    let exe = env::current_exe().map_err(broken("find this executable"))?;
    let dir = tempfile::Builder::new()
        .prefix("dormouse-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .map_err(broken("make a temporary directory"))?;
    let (mut reader, writer) = std::io::pipe().map_err(broken("make a pipe"))?;
    let mut unshare = Command::new("unshare");
    unshare
        .args([
            "--pid",
            "--fork",
            "--kill-child",
            "--net",
            "--ipc",
            "--mount",
            "--mount-proc",
            "--propagation",
            "private",
            "--",
            "sh",
            "-c",
            PREPARE,
        ])
        .arg(exe)
        .env(TEST, test)
        .env(DIR, dir.path())
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(broken("duplicate a pipe"))?)
        .stderr(writer);
    let mut child = unshare.spawn().map_err(broken("run unshare"))?;
    // The write ends in `unshare` would keep the reader waiting.
    drop(unshare);
    let output = thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is all there is to show.
        let _ = reader.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let began = Instant::now();
    let mut status = None;
    while status.is_none() && began.elapsed() < limit {
        thread::sleep(Duration::from_millis(2));
        status = child.try_wait().map_err(broken("wait for unshare"))?;
    }
    if status.is_none() {
        // --kill-child: the first process goes with it, and everything in the namespace with that.
        child.kill().map_err(broken("kill unshare"))?;
        child.wait().map_err(broken("wait for unshare"))?;
    }
    let said = output.join().unwrap_or_default();
    let result = match status {
        Some(status) if status.success() => Ok(()),
        Some(_) => Err(PenError::Failed { said }),
        None => Err(PenError::Late { limit, said }),
    };
    if result.is_err() && env::var_os("DORMOUSE_KEEP").is_some() {
        eprintln!("kept: {}", dir.keep().display());
    }
    result
}
