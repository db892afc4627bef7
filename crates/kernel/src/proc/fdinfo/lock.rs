//! File locks, as fdinfo and `/proc/locks` print them.

use crate::proc::scan::{ParseError, Scan};
use crate::{DeviceId, HostPid};

/// A lock or a lease (`lock_get_status` in `fs/locks.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLock {
    /// Which kind.
    pub kind: LockKind,
    /// For reading or for writing.
    pub mode: LockMode,
    /// Who took it, in the reader's pid namespace. `None` for a lock of an
    /// open file description, and for a process that is not visible.
    pub pid: Option<HostPid>,
    /// Of the locked inode.
    pub device: DeviceId,
    /// The locked inode.
    pub inode: u64,
    /// The first byte locked; 0 for a whole file.
    pub start: i64,
    /// The last byte locked; `None` for all there will ever be.
    pub last: Option<i64>,
}

/// Which kind of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// `F_SETLK`: owned by a process.
    Posix,
    /// `F_OFD_SETLK`: owned by an open file description.
    OpenFile,
    /// `flock(2)`: owned by an open file description.
    Flock,
    /// `F_SETLEASE`.
    Lease(LeaseState),
    /// A lease of the NFS server's.
    Delegation(LeaseState),
}

/// Whether a lease is being broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaseState {
    /// No.
    Active,
    /// Yes: its holder has been told.
    Breaking,
    /// It is the request that breaks another.
    Breaker,
}

/// What a lock lets its owner do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockMode {
    /// `F_RDLCK` or `LOCK_SH`.
    Read,
    /// `F_WRLCK` or `LOCK_EX`.
    Write,
    /// `F_UNLCK`: what is left of a lease that is being broken.
    Unlock,
}

impl FileLock {
    /// The line behind `lock:`, with its line end.
    pub(super) fn parse(scan: &mut Scan<'_>) -> Result<Self, ParseError> {
        scan.blanks();
        scan.dec::<u64>("a lock number")?;
        scan.label(":")?;
        let kind = kind(scan)?;
        scan.blanks();
        let mode = match scan.word() {
            b"READ" => LockMode::Read,
            b"WRITE" => LockMode::Write,
            b"UNLCK" => LockMode::Unlock,
            _ => return scan.error("READ, WRITE or UNLCK"),
        };
        let pid = HostPid::from_raw(scan.next_signed("a pid")?);
        let major = scan.next_hex("a major device number")?;
        scan.expect(":")?;
        let minor = scan.hex("a minor device number")?;
        scan.expect(":")?;
        let inode = scan.dec("an inode")?;
        let start = scan.next_signed("a position")?;
        scan.blanks();
        let last = if scan.eat(b"EOF") { None } else { Some(scan.signed("a position")?) };
        scan.end_line();
        Ok(Self { kind, mode, pid, device: DeviceId { major, minor }, inode, start, last })
    }
}

fn kind(scan: &mut Scan<'_>) -> Result<LockKind, ParseError> {
    let name = scan.word();
    scan.blanks();
    let state = scan.word();
    let lease = match state {
        b"ACTIVE" => Some(LeaseState::Active),
        b"BREAKING" => Some(LeaseState::Breaking),
        b"BREAKER" => Some(LeaseState::Breaker),
        _ => None,
    };
    match (name, state, lease) {
        (b"POSIX", b"ADVISORY", _) => Ok(LockKind::Posix),
        (b"OFDLCK", b"ADVISORY", _) => Ok(LockKind::OpenFile),
        (b"FLOCK", b"ADVISORY", _) => Ok(LockKind::Flock),
        (b"LEASE", _, Some(state)) => Ok(LockKind::Lease(state)),
        (b"DELEG", _, Some(state)) => Ok(LockKind::Delegation(state)),
        _ => scan.error("a kind of lock"),
    }
}
