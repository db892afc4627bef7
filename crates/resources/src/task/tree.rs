//! The shape of a process tree.
//!
//! - Kernel object: `task_struct.{real_parent, signal->pids}`
//! - Truth from: `/proc/PID/stat`, `/proc/PID/task`
//! - Image: `pstree.img`; life and death in `core-PID.img`, `tc.task_state`

use std::collections::BTreeSet;

use dormouse_image::ImageName;
use dormouse_image::proto::core::{CoreEntry, TaskCoreEntry};
use dormouse_image::proto::pstree::PstreeEntry;
use dormouse_kernel::NsPid;
use dormouse_kernel::signal::Signal;

use crate::Result;
use crate::corrupt::{corrupt, corrupt_core};

/// A process in the tree. Numbers are those of the tree's pid namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeNode {
    /// The process.
    pub pid: NsPid,
    /// Its parent; `None` for the root alone.
    pub parent: Option<NsPid>,
    /// Its process group; zero if it is outside of the namespace.
    pub pgid: i32,
    /// Its session; zero if it is outside of the namespace.
    pub sid: i32,
    /// Its threads, the leader among them; none if it is a zombie.
    pub threads: Vec<NsPid>,
}

/// Whether a process runs, is stopped, or has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It runs, or waits in a call.
    Running,
    /// Job control holds it, by this signal.
    Stopped(Signal),
    /// It has ended, and its parent has not asked for the status.
    Zombie {
        /// As `wait4(2)` will give it: exit code times 256, or the signal.
        status: u32,
    },
}

/// CRIU's `TASK_ALIVE`.
const ALIVE: u32 = 1;
/// CRIU's `TASK_DEAD`.
const DEAD: u32 = 2;
/// CRIU's `TASK_STOPPED`.
const STOPPED: u32 = 3;
/// CRIU's `TASK_ZOMBIE`, which it keeps apart from dead ones in memory only.
const ZOMBIE: u32 = 6;

impl Life {
    /// Writes it to the image of the process.
    pub fn encode(self, core: &mut CoreEntry) {
        let tc = core.tc.get_or_insert_default();
        (tc.task_state, tc.exit_code, tc.stop_signo) = match self {
            Self::Running => (ALIVE, 0, None),
            Self::Stopped(signal) => (STOPPED, 0, Some(signal.as_raw() as u32)),
            Self::Zombie { status } => (DEAD, status, None),
        };
    }

    /// Reads it back and judges it.
    pub fn decode(core: &CoreEntry) -> Result<Self> {
        const OBJECT: &str = "task state";
        let tc: &TaskCoreEntry = core.tc.as_ref().ok_or_else(|| corrupt_core(OBJECT, "missing"))?;
        match tc.task_state {
            ALIVE => Ok(Self::Running),
            STOPPED => {
                let raw = tc.stop_signo.unwrap_or(Signal::STOP.as_raw() as u32);
                let signal = i32::try_from(raw).ok().and_then(Signal::from_raw);
                let stops = [Signal::STOP, Signal::TSTP, Signal::TTIN, Signal::TTOU];
                match signal.filter(|signal| stops.contains(signal)) {
                    Some(signal) => Ok(Self::Stopped(signal)),
                    None => Err(corrupt_core(OBJECT, "stopped by a signal that stops nothing")),
                }
            }
            // Exit code in the second byte, or a signal with the core bit in
            // the first.
            DEAD | ZOMBIE if tc.exit_code & !0xff00 == 0 || tc.exit_code & !0xff == 0 => {
                Ok(Self::Zombie { status: tc.exit_code })
            }
            DEAD | ZOMBIE => Err(corrupt_core(OBJECT, "an exit status no wait can give")),
            _ => Err(corrupt_core(OBJECT, "not one of CRIU's")),
        }
    }
}

impl TreeNode {
    /// The entry of `pstree.img`.
    #[must_use]
    pub fn encode(&self) -> PstreeEntry {
        let number = |pid: NsPid| pid.as_raw().unsigned_abs();
        PstreeEntry {
            pid: number(self.pid),
            ppid: self.parent.map_or(0, number),
            pgid: self.pgid.unsigned_abs(),
            sid: self.sid.unsigned_abs(),
            threads: if self.threads.is_empty() {
                vec![number(self.pid)]
            } else {
                self.threads.iter().copied().map(number).collect()
            },
        }
    }
}

/// Reads a tree back and judges it: one root, which comes first; every parent
/// before its children; no number twice.
pub fn decode_tree(entries: Vec<PstreeEntry>) -> Result<Vec<TreeNode>> {
    let bad = |pid: u32, reason| corrupt(ImageName::PsTree, "process", pid, reason);
    let pid_of = |raw: u32| i32::try_from(raw).ok().and_then(NsPid::from_raw);
    let mut nodes: Vec<TreeNode> = Vec::with_capacity(entries.len());
    let mut processes = BTreeSet::new();
    let mut tasks = BTreeSet::new();
    for entry in entries {
        let pid = pid_of(entry.pid).ok_or_else(|| bad(entry.pid, "not a pid"))?;
        let parent = match pid_of(entry.ppid) {
            _ if nodes.is_empty() => None,
            Some(parent) if processes.contains(&parent) => Some(parent),
            _ => return Err(bad(entry.pid, "its parent does not come before it")),
        };
        let mut threads = Vec::with_capacity(entry.threads.len());
        let alone = entry.threads.len() == 1;
        for raw in entry.threads {
            let tid = match pid_of(raw) {
                // CRIU writes any number at all for the only thread of a zombie.
                _ if alone => pid,
                Some(tid) => tid,
                None => return Err(bad(entry.pid, "a thread without a tid")),
            };
            if !tasks.insert(tid) {
                return Err(bad(entry.pid, "a tid that is in use already"));
            }
            threads.push(tid);
        }
        match threads.iter().position(|&tid| tid == pid) {
            Some(leader) => threads.swap(0, leader),
            None => return Err(bad(entry.pid, "not among its own threads")),
        }
        threads[1..].sort_unstable();
        processes.insert(pid);
        let number = |raw: u32| i32::try_from(raw).map_err(|_| bad(entry.pid, "no such group"));
        // Groups and sessions of another pid namespace have no number.
        if entry.pgid == 0 && entry.sid != 0 {
            return Err(bad(entry.pid, "its process group is in no session"));
        }
        nodes.push(TreeNode {
            pid,
            parent,
            pgid: number(entry.pgid)?,
            sid: number(entry.sid)?,
            threads,
        });
    }
    if nodes.is_empty() {
        return Err(bad(0, "there is none"));
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pid: u32, ppid: u32, threads: &[u32]) -> PstreeEntry {
        PstreeEntry { pid, ppid, pgid: pid, sid: pid, threads: threads.to_vec() }
    }

    #[test]
    fn the_number_of_an_only_thread_counts_for_nothing() {
        let entries = vec![entry(3, 0, &[3]), entry(4, 3, &[0]), entry(5, 3, &[u32::MAX])];
        let nodes = decode_tree(entries).unwrap();
        let pid = |raw| NsPid::from_raw(raw).unwrap();
        assert_eq!(nodes[1].threads, [pid(4)]);
        assert_eq!(nodes[2].threads, [pid(5)]);
    }

    #[test]
    fn a_group_is_where_its_session_is() {
        let with = |pgid, sid| decode_tree(vec![PstreeEntry { pgid, sid, ..entry(3, 0, &[3]) }]);
        assert!(with(0, 0).is_ok());
        assert!(with(3, 0).is_ok());
        assert!(with(0, 3).is_err());
    }

    #[test]
    fn threads_have_numbers_of_their_own() {
        assert!(decode_tree(vec![entry(3, 0, &[3, 0])]).is_err());
        assert!(decode_tree(vec![entry(3, 0, &[4, 5])]).is_err());
        assert!(decode_tree(vec![entry(3, 0, &[3, 4]), entry(4, 3, &[4])]).is_err());
    }
}
