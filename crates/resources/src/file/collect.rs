//! What rooms are given when they read files.

use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::fd::OwnedFd;

use dormouse_kernel::{HostPid, NsPid};

use super::{
    Controlled, FdTable, FileId, FileIndex, Probe, RingSurvey, UnixSurvey, UserfaultSurvey,
};
use crate::Result;

/// What becomes of a unix socket whose peer is not part of the checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnixPeers {
    /// The dump is refused.
    #[default]
    Refuse,
    /// A datagram socket is connected to the same address again, as CRIU does it
    /// (`--ext-unix-sk`); the dump is refused for others.
    Datagrams,
    /// It is connected to the same address again, whatever its type.
    Reconnect,
    /// It comes back as if its peer had closed.
    Close,
}

/// What becomes of open TCP connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcpConnections {
    /// The dump or restore is refused.
    #[default]
    Refuse,
    /// They are saved and restored (`--tcp-established`).
    Keep,
    /// They come back closed (`--tcp-close`).
    Close,
}

/// How packets of connections are held up from the dump to the restore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkLock {
    /// By a table of nftables.
    #[default]
    Nftables,
    /// Not at all: whoever calls sees to that.
    Skip,
}

/// What a user can choose about the reading of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectOptions {
    /// The largest unlinked file whose contents are stored, in bytes on disk
    /// (`--ghost-limit`).
    pub ghost_limit: u64,
    /// Whether a file that has lost the name it was opened by, but has another, gets a hard
    /// link beside the lost one (`--link-remap`).
    pub link_remap: LinkRemap,
    /// Build IDs of programs and libraries are noted, for the restore to compare
    /// (`--file-validation=buildid`).
    pub build_ids: bool,
    /// A terminal whose other end is outside of the tree will be the one that
    /// the restore is started on (`--shell-job`).
    pub shell_job: bool,
    /// What becomes of unix sockets whose peers are not part of the checkpoint.
    pub unix_peers: UnixPeers,
    /// What becomes of TCP connections.
    pub tcp: TcpConnections,
    /// How their packets are held up.
    pub network_lock: NetworkLock,
    /// Connections that wait to be accepted are dropped (`--skip-in-flight`).
    pub skip_in_flight: bool,
}

/// When files get hard links beside names they have lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkRemap {
    /// Never.
    Never,
    /// When they cannot be found by another name: who runs on can see the link.
    Needed,
    /// Whenever they have lost one, as that is the only way that CRIU knows: it would show the
    /// program another name.
    Always,
}

impl Default for CollectOptions {
    fn default() -> Self {
        Self {
            ghost_limit: 1 << 20,
            link_remap: LinkRemap::Never,
            build_ids: false,
            shell_job: false,
            unix_peers: UnixPeers::Refuse,
            tcp: TcpConnections::Refuse,
            network_lock: NetworkLock::Nftables,
            skip_in_flight: false,
        }
    }
}

/// Where the contents of shared memory objects go. Memory has its own images
/// for them, and files only refer to those.
pub trait SaveShared {
    /// The number the contents behind `file`, a descriptor to read from, are
    /// stored under: once for each object, however often it is given or
    /// mapped.
    ///
    /// # Errors
    /// The object cannot be looked at.
    fn save(&self, file: OwnedFd) -> Result<u32>;
}

/// What rooms are given when they read files.
pub struct CollectCx<'a> {
    /// What the user chose.
    pub options: CollectOptions,
    /// Every file of the tree, by its number.
    pub probes: &'a BTreeMap<FileId, Probe>,
    /// Every fd table, in the order of the lowest pids that use them.
    pub tables: &'a [FdTable<FileId>],
    /// Where the contents of memfds go.
    pub shared: &'a dyn SaveShared,
    ns_pid: &'a dyn Fn(HostPid) -> Option<NsPid>,
    index: RefCell<FileIndex>,
    parts: RefCell<BTreeMap<TypeId, Box<dyn Any>>>,
    inodes: Cell<u32>,
    controlled: Controlled,
    external: BTreeSet<String>,
    processes: Vec<HostPid>,
}

impl<'a> CollectCx<'a> {
    /// For the files `probes`, which `index` told apart, and the `tables` that
    /// hold them, in the order of the lowest pids that use those. `ns_pid`
    /// gives the pid that a task, process group or session of the tree has in
    /// its own namespace, and `None` for all others.
    #[must_use]
    pub fn new(
        options: CollectOptions,
        (probes, tables): (&'a BTreeMap<FileId, Probe>, &'a [FdTable<FileId>]),
        index: FileIndex,
        ns_pid: &'a dyn Fn(HostPid) -> Option<NsPid>,
        shared: &'a dyn SaveShared,
    ) -> Self {
        Self {
            options,
            probes,
            tables,
            shared,
            ns_pid,
            index: RefCell::new(index),
            parts: RefCell::default(),
            inodes: Cell::new(1),
            controlled: Controlled::new(),
            external: BTreeSet::new(),
            processes: Vec::new(),
        }
    }

    /// With the sessions that have a controlling terminal.
    #[must_use]
    pub fn with_controlled(self, controlled: Controlled) -> Self {
        Self { controlled, ..self }
    }

    /// With the names of files that whoever restores will hand over
    /// (`--external`).
    #[must_use]
    pub fn with_external(self, external: impl IntoIterator<Item = String>) -> Self {
        Self { external: external.into_iter().collect(), ..self }
    }

    /// With the processes of the tree.
    #[must_use]
    pub fn with_processes(self, processes: impl IntoIterator<Item = HostPid>) -> Self {
        Self { processes: processes.into_iter().collect(), ..self }
    }

    /// The processes of the tree.
    pub(crate) fn processes(&self) -> &[HostPid] {
        &self.processes
    }

    /// Whether whoever restores will hand the file over that has this name.
    pub(crate) fn is_external(&self, name: &str) -> bool {
        self.external.contains(name)
    }

    /// The sessions that have a controlling terminal.
    pub(crate) fn controlled(&self) -> &Controlled {
        &self.controlled
    }

    /// What was found in queues of sockets when files were enumerated.
    pub fn note(&self, survey: UnixSurvey) {
        *self.part() = survey;
    }

    /// Rings, as they were when tasks ran last.
    pub fn note_rings(&self, survey: RingSurvey) {
        *self.part() = survey;
    }

    /// What is registered with userfaultfds in the memory of the tree.
    pub fn note_faults(&self, survey: UserfaultSurvey) {
        *self.part() = survey;
    }

    /// A number for an entry of `files.img` that stands for no file of the
    /// tree.
    pub(crate) fn fresh_id(&self) -> FileId {
        self.index.borrow_mut().fresh()
    }

    /// A number for an inode, of whatever kind.
    pub(crate) fn fresh_inode(&self) -> u32 {
        self.inodes.replace(self.inodes.get() + 1)
    }

    /// What a pid of this process's namespace is in the tree's.
    pub(crate) fn ns_pid(&self, pid: HostPid) -> Option<NsPid> {
        (self.ns_pid)(pid)
    }

    /// What the rooms of one kind share while they read: made when first
    /// asked for.
    pub(crate) fn part<P: Default + 'static>(&self) -> RefMut<'_, P> {
        RefMut::map(self.parts.borrow_mut(), |parts| {
            let part = parts.entry(TypeId::of::<P>()).or_insert_with(|| Box::new(P::default()));
            part.downcast_mut().expect("a part is kept under its own type")
        })
    }
}

impl fmt::Debug for CollectCx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectCx").field("options", &self.options).finish_non_exhaustive()
    }
}
