//! What is known of an open file before any room has claimed it.

use std::cell::OnceCell;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use dormouse_kernel::pidfd::PidFd;
use dormouse_kernel::proc::{Entry, ProcDir};
use dormouse_kernel::socket::SocketOption;
use dormouse_kernel::{DeviceId, FdNum, HostPid};
use rustix::fs::{FileType, Mode, OFlags, fstatfs};

use super::kernel_files::KernelSocket;
use super::{FileId, KernelFile, KernelFileId, Mounts, Sighting};
use crate::unseen::open_unseen;
use crate::{Error, Result};

/// Where the file was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// In an fd table.
    Fd {
        /// A task that uses the table.
        task: HostPid,
        /// The number there.
        fd: FdNum,
    },
    /// In nobody's fd table: in flight, in the queue of a socket.
    Flight {
        /// A task that has the socket, or the one the socket is in flight
        /// through.
        task: HostPid,
        /// The number of that socket there.
        fd: FdNum,
    },
    /// Behind a link of `/proc/PID`: `exe`, `cwd`, `root` or one of
    /// `map_files`. Such a file has no open file description of its own to
    /// duplicate.
    Link {
        /// The process.
        task: HostPid,
        /// The link, below `/proc/PID`.
        link: Entry,
    },
}

impl Holder {
    /// The task and the number by which to speak of the file.
    #[must_use]
    pub fn place(&self) -> (HostPid, Option<FdNum>) {
        match *self {
            Self::Fd { task, fd } | Self::Flight { task, fd } => (task, Some(fd)),
            Self::Link { task, .. } => (task, None),
        }
    }
}

/// A type of file system, by its magic number (`statfs(2)`,
/// `include/uapi/linux/magic.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsMagic(u32);

impl FsMagic {
    /// For what `fstatfs(2)` gives.
    #[cfg(test)]
    pub(super) const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// Files without an inode of their own.
    pub const ANON_INODE: Self = Self(0x0904_1934);
    /// memfds of huge pages, and mounted `hugetlbfs`.
    pub const HUGETLB: Self = Self(0x9584_58f6);
    /// POSIX message queues.
    pub const MQUEUE: Self = Self(0x1980_0202);
    /// Control groups, of the first version.
    pub const CGROUP: Self = Self(0x27_e0eb);
    /// Control groups, of the second version.
    pub const CGROUP2: Self = Self(0x6367_7270);
    /// debugfs.
    pub const DEBUG: Self = Self(0x6462_6720);
    /// Pseudo terminals.
    pub const DEVPTS: Self = Self(0x1cd1);
    /// NFS.
    pub const NFS: Self = Self(0x6969);
    /// Namespaces.
    pub const NS: Self = Self(0x6e73_6673);
    /// overlayfs.
    pub const OVERLAY: Self = Self(0x794c_7630);
    /// Pipes.
    pub const PIPE: Self = Self(0x5049_5045);
    /// pidfds.
    pub const PID: Self = Self(0x5049_4446);
    /// `/proc`.
    pub const PROC: Self = Self(0x9fa0);
    /// Secret memory.
    pub const SECRET_MEMORY: Self = Self(0x5345_434d);
    /// securityfs.
    pub const SECURITY: Self = Self(0x7363_6673);
    /// sysfs.
    pub const SYS: Self = Self(0x6265_6572);
    /// tracefs.
    pub const TRACE: Self = Self(0x7472_6163);
    /// Sockets.
    pub const SOCKET: Self = Self(0x534f_434b);
    /// memfds, and mounted `tmpfs`.
    pub const TMPFS: Self = Self(0x0102_1994);
}

/// The family of a socket, `AF_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketFamily(i32);

impl SocketFamily {
    /// `unix(7)`.
    pub const UNIX: Self = Self(libc::AF_UNIX);
    /// `ip(7)`.
    pub const INET: Self = Self(libc::AF_INET);
    /// `ipv6(7)`.
    pub const INET6: Self = Self(libc::AF_INET6);
    /// `netlink(7)`.
    pub const NETLINK: Self = Self(libc::AF_NETLINK);
    /// `packet(7)`.
    pub const PACKET: Self = Self(libc::AF_PACKET);
    /// `vsock(7)`.
    pub const VSOCK: Self = Self(libc::AF_VSOCK);
    /// The kernel's cryptography.
    pub const ALG: Self = Self(libc::AF_ALG);
    /// Packets past the kernel.
    pub const XDP: Self = Self(libc::AF_XDP);
    /// The bus of cars.
    pub const CAN: Self = Self(libc::AF_CAN);
    /// Bluetooth.
    pub const BLUETOOTH: Self = Self(libc::AF_BLUETOOTH);
    /// IPsec.
    pub const KEY: Self = Self(libc::AF_KEY);
    /// PPP over Ethernet, PPTP and L2TP.
    pub const PPPOX: Self = Self(libc::AF_PPPOX);
    /// TIPC, RDS, KCM, QRTR and SMC.
    pub const TRANSPORTS: [Self; 5] =
        [Self(libc::AF_TIPC), Self(libc::AF_RDS), Self(41), Self(42), Self(43)];
}

/// One open file description (or mapped file, or directory in use), and what
/// `/proc` says of it.
#[derive(Debug)]
pub struct Probe {
    /// Its number in this dump.
    pub id: FileId,
    /// One of the places that hold it.
    pub holder: Holder,
    /// What was seen there.
    pub sighting: Sighting,
    /// The file system it is on.
    pub file_system: FsMagic,
    /// Whether the mount it was opened through is in the tree of
    /// directories.
    pub mounted: bool,
    /// Whether it is known that nobody gets its signals, and that it was not told
    /// which.
    pub(super) has_no_owner: bool,
    /// What tells it from others in the kernel's memory, if that was read.
    pub(super) kernel_id: Option<KernelFileId>,
    /// Where the kernel's memory has it, of a socket, if that was read.
    pub(super) socket: Option<KernelSocket>,
    origin: Origin,
    family: OnceCell<Option<SocketFamily>>,
}

impl Deref for Probe {
    type Target = Sighting;

    fn deref(&self) -> &Sighting {
        &self.sighting
    }
}

/// How to get at the file again, as long as whoever holds it stands still.
#[derive(Clone, Debug)]
pub struct Origin(Source);

#[derive(Clone, Debug)]
enum Source {
    Table { proc: Rc<ProcDir>, pidfd: Rc<PidFd>, fd: FdNum },
    Held { file: Rc<OwnedFd> },
    Link { path: Rc<OwnedFd> },
}

impl Probe {
    /// Descriptor `fd` in the fd table of the task behind `proc` and `pidfd`.
    ///
    /// # Errors
    /// The file's file system does not answer.
    pub fn of_fd(
        id: FileId,
        (proc, pidfd): (&Rc<ProcDir>, &Rc<PidFd>),
        fd: FdNum,
        (sighting, inner): (Sighting, Option<(KernelFile, Option<FsMagic>)>),
        mounts: &Mounts,
    ) -> Result<Self> {
        let holder = Holder::Fd { task: proc.pid(), fd };
        let source = Source::Table { proc: Rc::clone(proc), pidfd: Rc::clone(pidfd), fd };
        let (inner, known) = inner.unzip();
        let mut probe = match known.flatten() {
            Some(file_system) => Self::on(file_system, (id, holder), sighting, source, mounts),
            None => {
                let path = proc.open_fd(fd, OFlags::PATH)?;
                Self::new(id, holder, sighting, path.as_fd(), source, mounts)?
            }
        };
        probe.has_no_owner = inner.is_some_and(|inner| !inner.has_owner);
        probe.kernel_id = inner.map(|inner| inner.id);
        probe.socket = inner.and_then(|inner| inner.socket);
        if let Some(socket) = probe.socket {
            let family = (socket.family != 0).then_some(SocketFamily(socket.family));
            probe.family = OnceCell::from(family);
        }
        Ok(probe)
    }

    /// The file behind `file`, found in flight in the queue of a socket that
    /// `socket` tells the holder of.
    ///
    /// # Errors
    /// The file's file system does not answer.
    pub fn of_flight(
        id: FileId,
        socket: &Holder,
        (sighting, file): (Sighting, OwnedFd),
        mounts: &Mounts,
    ) -> Result<Self> {
        let holder = match *socket {
            Holder::Fd { task, fd } | Holder::Flight { task, fd } => Holder::Flight { task, fd },
            Holder::Link { .. } => unreachable!("a socket is behind no link"),
        };
        let file = Rc::new(file);
        let source = Source::Held { file: Rc::clone(&file) };
        Self::new(id, holder, sighting, file.as_fd(), source, mounts)
    }

    /// The file that [`Sighting::of_link`] found at `task` and `link`, opened
    /// as `path`.
    ///
    /// # Errors
    /// The file's file system does not answer.
    pub fn of_link(
        id: FileId,
        (task, link): (HostPid, Entry),
        (sighting, path): (Sighting, OwnedFd),
        mounts: &Mounts,
    ) -> Result<Self> {
        let path = Rc::new(path);
        let holder = Holder::Link { task, link };
        let source = Source::Link { path: Rc::clone(&path) };
        Self::new(id, holder, sighting, path.as_fd(), source, mounts)
    }

    fn new(
        id: FileId,
        holder: Holder,
        sighting: Sighting,
        path: BorrowedFd<'_>,
        source: Source,
        mounts: &Mounts,
    ) -> Result<Self> {
        let statfs = fstatfs(path).map_err(Error::kernel("fstatfs", &sighting.link))?;
        // All magic numbers fit 32 bits; the type of the field differs by
        // architecture, and may be signed.
        let file_system = FsMagic(statfs.f_type as u32);
        Ok(Self::on(file_system, (id, holder), sighting, source, mounts))
    }

    fn on(
        file_system: FsMagic,
        (id, holder): (FileId, Holder),
        sighting: Sighting,
        source: Source,
        mounts: &Mounts,
    ) -> Self {
        let mounted = mounts.contains(sighting.info.mount_id);
        Self {
            id,
            holder,
            sighting,
            file_system,
            mounted,
            has_no_owner: false,
            kernel_id: None,
            socket: None,
            origin: Origin(source),
            family: OnceCell::new(),
        }
    }

    /// The type bits of the inode's mode.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// The status flags of the open file description, as `F_GETFL` gives
    /// them, plus `O_PATH`; close-on-exec belongs to the descriptor and is
    /// not among them.
    #[must_use]
    pub fn flags(&self) -> OFlags {
        self.info.flags.difference(OFlags::CLOEXEC)
    }

    /// Whether the file was opened with `O_PATH`: it stands for a place in a
    /// file system, and not for what is there.
    #[must_use]
    pub fn is_path_only(&self) -> bool {
        self.info.flags.contains(OFlags::PATH)
    }

    /// The device number, of a device.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        DeviceId::from_stat(self.stat.st_rdev)
    }

    /// The name between `anon_inode:` and the end of the link, if that is
    /// what the file is, without brackets.
    #[must_use]
    pub fn anonymous_inode(&self) -> Option<&str> {
        let name = self.link.to_str()?.strip_prefix("anon_inode:")?;
        Some(name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name))
    }

    /// The family of a socket; `None` for everything else, and for what was
    /// opened with `O_PATH`.
    #[must_use]
    pub fn socket_family(&self) -> Option<SocketFamily> {
        if self.file_system != FsMagic::SOCKET || self.is_path_only() {
            return None;
        }
        *self.family.get_or_init(|| {
            let domain = SocketOption::of_socket(libc::SO_DOMAIN);
            domain.get(self.duplicate().ok()?).ok().map(SocketFamily)
        })
    }

    /// How to get at the file again later.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin.clone()
    }

    /// Whether an open file description is behind it, and not just an inode.
    #[must_use]
    pub fn has_description(&self) -> bool {
        matches!(self.holder, Holder::Fd { .. } | Holder::Flight { .. })
    }

    /// Whether it is in no fd table, but in the queue of a socket.
    pub(super) fn is_in_flight(&self) -> bool {
        matches!(self.holder, Holder::Flight { .. })
    }

    /// Whether the link is that of a memfd, or of shared anonymous memory
    /// opened through `/proc/PID/map_files`.
    #[must_use]
    pub fn is_memfd_link(&self) -> bool {
        let link = self.link.as_os_str().as_bytes();
        link.starts_with(b"/memfd:") || link.starts_with(b"/dev/zero")
    }

    /// Whether it is an inode that no directory has, opened with `O_PATH`: of its state the kernel
    /// then tells nothing, so no room is for it.
    pub(super) fn is_anonymous_path(&self) -> bool {
        self.file_system == FsMagic::ANON_INODE && self.is_path_only()
    }

    /// Whether the link is that of a segment of `shmget(2)` (`ipc/shm.c`), or of huge pages that
    /// were mapped without a file (`mm/mmap.c`), opened in the same way.
    pub(super) fn is_segment_link(&self) -> bool {
        let link = self.link.as_os_str().as_bytes();
        let is_tmpfs = [FsMagic::TMPFS, FsMagic::HUGETLB].contains(&self.file_system);
        is_tmpfs && (link.starts_with(b"/SYSV") || link.starts_with(b"/anon_hugepage"))
    }

    /// A descriptor of this process on the same open file description. For
    /// a file behind a link there is none, and this is one opened `O_PATH`.
    ///
    /// # Errors
    /// The holder is gone, or this process has too many descriptors.
    pub fn duplicate(&self) -> Result<OwnedFd> {
        match &self.origin.0 {
            Source::Table { pidfd, fd, .. } => Ok(pidfd.get_fd(*fd)?),
            Source::Link { path: file } | Source::Held { file } => {
                rustix::io::fcntl_dupfd_cloexec(file, 0).map_err(Error::kernel("dup", &self.link))
            }
        }
    }

    /// The same, made when it is first needed.
    #[must_use]
    pub(crate) fn duplicate_later(&self) -> Duplicate<'_> {
        Duplicate { probe: self, file: OnceCell::new() }
    }

    /// A new open file description on the same inode, see [`Origin::reopen`].
    ///
    /// # Errors
    /// What `open(2)` says.
    pub fn reopen(&self, flags: OFlags) -> Result<OwnedFd> {
        self.origin.reopen(flags)
    }

    /// One to read from, see [`Origin::reopen_unseen`].
    ///
    /// # Errors
    /// What `open(2)` says.
    pub(crate) fn reopen_unseen(&self) -> Result<OwnedFd> {
        self.origin.reopen_unseen()
    }
}

/// A descriptor of this process on the open file description of a probe, made
/// when it is first needed.
pub(crate) struct Duplicate<'a> {
    probe: &'a Probe,
    file: OnceCell<OwnedFd>,
}

impl Duplicate<'_> {
    pub(crate) fn get(&self) -> Result<BorrowedFd<'_>> {
        if self.file.get().is_none() {
            // Nobody else sets it.
            let _ = self.file.set(self.probe.duplicate()?);
        }
        Ok(self.file.get().expect("set above").as_fd())
    }
}

impl Origin {
    /// A new open file description on the inode, opened through `/proc`,
    /// whatever has become of its path.
    ///
    /// # Errors
    /// What `open(2)` says.
    pub fn reopen(&self, flags: OFlags) -> Result<OwnedFd> {
        match &self.0 {
            Source::Table { proc, fd, .. } => Ok(proc.open_fd(*fd, flags)?),
            Source::Link { path: file } | Source::Held { file } => {
                reopen(file.as_fd(), flags).map_err(Error::kernel("open", "/proc/self/fd"))
            }
        }
    }

    /// The same for reading, which is not to show in the access time.
    ///
    /// # Errors
    /// What `open(2)` says.
    pub(crate) fn reopen_unseen(&self) -> Result<OwnedFd> {
        open_unseen(|flags| self.reopen(flags | OFlags::NONBLOCK), Error::errno)
    }
}

/// A new open file description on the inode behind a descriptor of this
/// process, even one opened with `O_PATH`.
pub(crate) fn reopen(file: BorrowedFd<'_>, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
}
