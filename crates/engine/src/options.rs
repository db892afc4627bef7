//! What a user can ask for.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use dormouse_kernel::HostPid;
pub use dormouse_resources::file::{NetworkLock, TcpConnections, UnixPeers};

use crate::CpuChecks;

/// What becomes of the tree when its images are complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterDump {
    /// Killed, every process of it.
    #[default]
    Kill,
    /// It runs on (`--leave-running`).
    LeaveRunning,
    /// It stays stopped, as by SIGSTOP (`--leave-stopped`).
    LeaveStopped,
}

/// A dump: which tree, where to, and how.
#[derive(Debug)]
pub struct DumpOptions {
    /// The root of the tree.
    pub pid: HostPid,
    /// The directory the images go to; it must exist.
    pub images: PathBuf,
    /// Where logs, statistics and other by-products go; the image directory
    /// if absent (`--work-dir`).
    pub work: Option<PathBuf>,
    /// The figures of `--display-stats` are wanted: without them it fails.
    pub needs_stats: bool,
    /// What becomes of the tree afterwards.
    pub after: AfterDump,
    /// The root may live in a session whose leader, or on a terminal whose
    /// other end, is outside of the tree (`--shell-job`).
    pub shell_job: bool,
    /// How long freezing the tree may take (`--timeout`, whole seconds in
    /// CRIU, 10 there by default).
    pub timeout: Duration,
    /// The largest unlinked file whose contents are stored, in bytes
    /// (`--ghost-limit`).
    pub ghost_limit: u64,
    /// A file that has lost the name it was opened by, but has another, is given
    /// a hard link, which the restore takes away again (`--link-remap`).
    pub link_remap: bool,
    /// Build IDs of programs and libraries are noted
    /// (`--file-validation=buildid`); otherwise sizes and modes have to do.
    pub build_ids: bool,
    /// What becomes of unix sockets whose peers are not part of the tree
    /// (`--ext-unix-sk`, `--unix-peer`).
    pub unix_peers: UnixPeers,
    /// What becomes of open TCP connections (`--tcp-established`,
    /// `--tcp-close`).
    pub tcp: TcpConnections,
    /// How their packets are held up from the dump to the restore
    /// (`--network-lock`).
    pub network_lock: NetworkLock,
    /// Connections that wait to be accepted are dropped (`--skip-in-flight`).
    pub skip_in_flight: bool,
    /// What processor it is goes to the images as well (`--cpu-cap`).
    pub cpu_info: bool,
    /// Locks of files and leases are saved (`--file-locks`); otherwise a tree
    /// that holds some is refused.
    pub file_locks: bool,
    /// Files that are not saved, as whoever restores will hand them over
    /// (`--external`): `file[MOUNT:INODE]`, `tty[RDEV:DEV]`, in hexadecimal.
    pub external: Vec<String>,
}

impl DumpOptions {
    /// A dump of `pid` into `images`, everything else as CRIU has it.
    #[must_use]
    pub fn new(pid: HostPid, images: PathBuf) -> Self {
        Self {
            pid,
            images,
            work: None,
            needs_stats: false,
            after: AfterDump::default(),
            shell_job: false,
            timeout: Duration::from_secs(10),
            ghost_limit: 1 << 20,
            link_remap: false,
            build_ids: false,
            unix_peers: UnixPeers::Refuse,
            tcp: TcpConnections::Refuse,
            network_lock: NetworkLock::Nftables,
            skip_in_flight: false,
            cpu_info: false,
            file_locks: false,
            external: Vec::new(),
        }
    }
}

/// Whose child the root of a restored tree becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootParent {
    /// That of this process.
    Caller,
    /// That of this process's parent (`--restore-sibling`).
    Other,
    /// That of this process's parent, which ends once the tree runs
    /// (`--restore-detached`). A root that is to be told of its parent's end
    /// is an orphan from the start: it must not be told of that one's.
    Leaving,
}

/// A restore: where from, and how.
#[derive(Debug)]
pub struct RestoreOptions {
    /// The directory the images are in.
    pub images: PathBuf,
    /// Where logs and statistics go; the image directory if absent.
    pub work: Option<PathBuf>,
    /// The figures of `--display-stats` are wanted: without them it fails.
    pub needs_stats: bool,
    /// See [`DumpOptions::shell_job`].
    pub shell_job: bool,
    /// Whose child the root becomes.
    pub parent: RootParent,
    /// The root's pid is written here before it runs (`--pidfile`). Whether it can be is found out
    /// before anything is created.
    pub pidfile: Option<PathBuf>,
    /// The restored tree stays stopped, as by SIGSTOP (`--leave-stopped`).
    pub leave_stopped: bool,
    /// Descriptors of this process that stand for files of the image
    /// (`--inherit-fd`), by the key the image names them with.
    pub inherit: Vec<(String, OwnedFd)>,
    /// What becomes of open TCP connections (`--tcp-established`,
    /// `--tcp-close`); they come back closed in any case if they were dumped to
    /// be.
    pub tcp: TcpConnections,
    /// Where the dump has noted build IDs, files must have them, unless
    /// `--file-validation=filesize`.
    pub build_ids: bool,
    /// What this processor is to have in common with that of the dump (`--cpu-cap`), which images then
    /// have to tell of. If absent, programs must be able to run on it as far as images tell.
    pub cpu: Option<CpuChecks>,
}

impl RestoreOptions {
    /// A restore from `images`, everything else as CRIU has it.
    #[must_use]
    pub fn new(images: PathBuf) -> Self {
        Self {
            images,
            work: None,
            needs_stats: false,
            shell_job: false,
            parent: RootParent::Caller,
            pidfile: None,
            leave_stopped: false,
            inherit: Vec::new(),
            tcp: TcpConnections::Refuse,
            build_ids: true,
            cpu: None,
        }
    }
}
