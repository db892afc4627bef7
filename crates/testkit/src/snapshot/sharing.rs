//! Who shares what: `dormouse-scenario --probe`, and the fd tables that only a
//! thread has.

use std::path::Path;
use std::process::Command;

use super::{Inodes, Snapshot, task};
use crate::failure::{Failure, io_failure};

/// Adds the facts `share/...` of every process, and the descriptors of threads
/// whose fd table is not their process's.
pub(super) fn read(
    snapshot: &mut Snapshot,
    tree: &[i32],
    scenario: &Path,
    inodes: &mut Inodes,
) -> Result<(), Failure> {
    let pids: Vec<String> = tree.iter().map(i32::to_string).collect();
    let output = Command::new(scenario)
        .arg("--probe")
        .args(pids)
        .output()
        .map_err(io_failure("run", scenario))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io_failure("probe with", scenario)(std::io::Error::other(said)));
    }
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut words = line.split(' ');
        let (Some(kind), Some(member), Some(owner)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let tid: i32 = member.split('/').next().and_then(|t| t.parse().ok()).unwrap_or(0);
        let pid = if tree.contains(&tid) { tid } else { process_of(tid)? };
        snapshot.put(pid, format!("share/{kind}/{member}"), owner);
        if kind == "files" && member == owner && pid != tid {
            task::descriptors(
                snapshot,
                pid,
                &format!("/proc/{tid}"),
                &format!("task/{tid}/fd"),
                inodes,
            )?;
        }
    }
    Ok(())
}

fn process_of(tid: i32) -> Result<i32, Failure> {
    let status = task::read(format!("/proc/{tid}/status"))?;
    let tgid = status.lines().find_map(|l| l.strip_prefix("Tgid:"));
    Ok(tgid.and_then(|t| t.trim().parse().ok()).unwrap_or(tid))
}
