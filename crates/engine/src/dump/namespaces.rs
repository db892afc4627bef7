//! Which namespaces tasks must be in.

use dormouse_kernel::HostPid;
use dormouse_kernel::proc::{self, NamespaceId, NamespaceKind, ProcDir};

use super::frozen::Process;
use crate::cause::Cause;

/// The namespaces that dormouse is in.
pub(super) struct Namespaces(Vec<(NamespaceKind, Option<NamespaceId>)>);

impl Namespaces {
    /// What a thread can have of its own. Those of mounts, but for the root's, are told by what is open in
    /// them, and by the directories.
    const OF_THREADS: &'static [NamespaceKind] = &[
        NamespaceKind::Cgroup,
        NamespaceKind::Ipc,
        NamespaceKind::Net,
        NamespaceKind::PidForChildren,
        NamespaceKind::TimeForChildren,
        NamespaceKind::Uts,
    ];
    /// What a process with several threads has in common: see `setns(2)`.
    const OF_PROCESSES: &'static [NamespaceKind] = &[NamespaceKind::Time, NamespaceKind::User];

    pub(super) fn own() -> Result<Self, Cause> {
        let own = HostPid::of_self();
        let proc = ProcDir::open(own)?;
        let kinds = [Self::OF_THREADS, Self::OF_PROCESSES].concat().into_iter();
        let all = kinds.map(|kind| Ok((kind, proc.namespace(kind)?)));
        Ok(Self(all.collect::<Result<_, proc::Error>>()?))
    }

    /// The first kind that a task has another one of. What its process has in common is asked of
    /// the first thread that there is: the leader may have ended.
    pub(super) fn first_other(
        &self,
        proc: &ProcDir,
        tid: HostPid,
        is_first: bool,
    ) -> Result<Option<NamespaceKind>, proc::Error> {
        let asked = if is_first { &self.0[..] } else { &self.0[..Self::OF_THREADS.len()] };
        for &(kind, ours) in asked {
            if proc.namespace_of(tid, kind)? != ours {
                return Ok(Some(kind));
            }
        }
        Ok(None)
    }

    /// Whether the root of a tree is among other mounts than dormouse.
    pub(super) fn has_other_mounts(root: &Process) -> Result<bool, proc::Error> {
        let of_root = root.proc.namespace_of(root.first(), NamespaceKind::Mount)?;
        Ok(ProcDir::of_self()?.namespace(NamespaceKind::Mount)? != of_root)
    }
}
