//! Who has a pid that the tree needs.

use dormouse_kernel::proc::{ProcDir, Stat};
use dormouse_kernel::{HostPid, NsPid};

use super::decode::host;
use crate::cause::Cause;

/// So many members of a group are named.
const NAMED: usize = 4;

/// A pid that the tree needs is in use.
pub(super) fn taken(pid: NsPid) -> Cause {
    let pid = host(pid);
    let status = ProcDir::open(pid).and_then(|dir| dir.status());
    let holder = match status {
        Ok(status) if status.tgid == pid => format!("process {pid} ({:?})", status.name),
        Ok(status) => format!("a thread of process {} ({:?})", status.tgid, status.name),
        Err(_) => members(pid),
    };
    Cause::PidTaken { pid, holder }
}

/// A number is not free either while it is that of a process group, or of a session, whose leader has
/// ended: says who is in it.
fn members(number: HostPid) -> String {
    let (mut group, mut session) = (Vec::new(), Vec::new());
    for (pid, stat) in processes() {
        if stat.pgrp == Some(number) {
            group.push((pid, stat));
        } else if stat.session == Some(number) {
            session.push((pid, stat));
        }
    }
    let (what, mut members) = match (group.is_empty(), session.is_empty()) {
        (true, true) => {
            return "a process group or session with members that /proc hides".to_owned();
        }
        (false, true) => ("the process group", group),
        (true, false) => ("the session", session),
        (false, false) => ("the process group and session", [group, session].concat()),
    };
    members.sort_by_key(|&(pid, _)| pid);
    let name = |(pid, stat): &(HostPid, Stat)| {
        let dead = if stat.state.is_dead() { ", a zombie" } else { "" };
        format!("{pid} ({:?}{dead})", stat.comm)
    };
    let named: Vec<_> = members.iter().take(NAMED).map(name).collect();
    let more = match members.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let noun = if members.len() == 1 { "process" } else { "processes" };
    format!("{what} of {noun} {}{more}", named.join(", "))
}

/// All that `/proc` shows just now.
fn processes() -> impl Iterator<Item = (HostPid, Stat)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = HostPid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        Some((pid, ProcDir::open(pid).and_then(|dir| dir.stat()).ok()?))
    })
}
