//! Restores that find a number in use by nothing but a process group or a session.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use dormouse_testkit::checkpointer::Checkpointer;
use dormouse_testkit::failure::Failure;
use dormouse_testkit::snapshot::Snapshot;
use dormouse_testkit::target::{Target, none_left};

use super::dump;

/// What a shell starts in the background, which stays when that ends: in the shell's own group, or in
/// one of its own, and so in the shell's session only.
const LEFT: [(&str, &str); 2] = [
    ("sleep 600 > /dev/null 2>&1 & echo $!", "the process group of process"),
    ("set -m; sleep 600 > /dev/null 2>&1 & echo $!", "the session of process"),
];

/// Who is in a group or session that has a number of the tree is named.
pub(super) fn are_named(
    target: &Target,
    before: &Snapshot,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<(), Failure> {
    let images = dump(target, before, checkpointer, dir)?;
    let restore = || checkpointer.restore(&images, &dir.join("pidfile"), dir, &[]);
    for (script, what) in LEFT {
        let member = leave(target.root, script)?;
        let naming = [target.root.to_string(), format!("{what} {member} (\"sleep\")")];
        let ended = restore().fail("a number is a group's or session's", &naming);
        let left = none_left("after a restore that found a number taken", &[member]);
        target.kill(&[member])?;
        ended?;
        left?;
    }
    let took = restore().succeed()?.took;
    target.judge(took)
}

/// Has a shell with this pid lead a session, start something and end: the pid namespace gives out the
/// next number after `ns_last_pid`.
fn leave(pid: i32, script: &str) -> Result<i32, Failure> {
    const LAST: &str = "/proc/sys/kernel/ns_last_pid";
    let fail = |operation, path: &str| {
        let path = path.into();
        move |source| Failure::Io { operation, path, source }
    };
    let last = fs::read_to_string(LAST).map_err(fail("read", LAST))?;
    fs::write(LAST, (pid - 1).to_string()).map_err(fail("write", LAST))?;
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("echo $$; echo {last} > {LAST}; {script}", last = last.trim())]);
    // SAFETY: the call is safe between fork and exec.
    unsafe { shell.pre_exec(|| Ok(rustix::process::setsid().map(drop)?)) };
    let said = shell.stdin(Stdio::null()).output().map_err(fail("run", "bash"))?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let numbers: Vec<i32> = said.lines().filter_map(|line| line.parse().ok()).collect();
    match numbers[..] {
        [shell, member] if shell == pid => {
            // Until it runs its program.
            let is_sleep = || fs::read_to_string(format!("/proc/{member}/comm"));
            while is_sleep().is_ok_and(|name| name != "sleep\n") {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(member)
        }
        _ => Err(Failure::Verdict(format!("a shell was to get pid {pid}: {said:?}"))),
    }
}
