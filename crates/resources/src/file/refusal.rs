//! Kinds of files that no room is for, each with its reason.

use std::ffi::OsString;
use std::path::Path;

use dormouse_image::ImageName;
use dormouse_kernel::DeviceId;
use rustix::fs::FileType;

use super::{FileId, FsMagic, Probe, SocketFamily};
use crate::Error;
use crate::corrupt::corrupt;
use crate::refusal::refusals;

refusals! {
    /// A kind of file that is refused.
    Refusal
    /// A socket of a family that is not named below, or opened by `O_PATH`.
    Socket: "a socket of a rare family", "the kernel does not tell its state",
        "checkpoint the program while it has none open";
    /// `vsock(7)`.
    Vsock: "a vsock socket", "its peer is another machine, which a checkpoint cannot stop",
        "close it first, or have the program talk by TCP";
    /// `AF_ALG`.
    Alg: "a socket of the kernel's cryptography (AF_ALG)", "its keys cannot be read",
        "have the program use a library in its place (OpenSSL has the engine afalg for it)";
    /// `AF_XDP`.
    Xdp: "an XDP socket", "its rings and its BPF program cannot be carried over",
        "stop the program's fast path first";
    /// `AF_CAN`.
    Can: "a CAN bus socket", "its filters and timed messages cannot be read in full",
        "close it first";
    /// `AF_BLUETOOTH`.
    Bluetooth: "a Bluetooth socket", "its peer is a device, which a checkpoint cannot stop",
        "disconnect first";
    /// `AF_KEY`, the older way to set up IPsec.
    Key: "an IPsec key socket (AF_KEY)", "what it has registered for cannot be read",
        "stop the key daemon first, or have it use netlink (XFRM)";
    /// `AF_PPPOX`.
    Pppox: "a PPP socket", "the session belongs to the link", "take the link down first";
    /// `AF_TIPC`, `AF_RDS`, `AF_SMC`, `AF_KCM`, `AF_QIPCRTR`.
    Transport: "a socket of a rare transport (TIPC, RDS, SMC, KCM, QRTR)",
        "the kernel does not tell the state of its connections",
        "have the program talk by TCP";
    /// `pidfd_open(2)`, opened again by its link.
    Pidfd: "a pidfd opened with O_PATH", "the kernel gives no way to open one again",
        "have the program duplicate the descriptor instead (dup)";
    /// An inode that no directory has, opened again by its link in `/proc`.
    AnonymousPath: "a kernel object opened with O_PATH", "the kernel gives no way to open one again",
        "have the program duplicate the descriptor instead (dup)";
    /// A program of `bpf(2)`.
    BpfProgram: "a BPF program", "the kernel shows it only as it has rewritten it",
        "have the program load it when it needs it, and close it then, or pin it (bpffs)";
    /// A link of `bpf(2)`.
    BpfLink: "a BPF link", "what it attaches goes on outside of the program, and cannot be attached twice",
        "have the program pin it (bpffs) and close it first";
    /// Types and iterators of `bpf(2)`.
    Bpf: "a BPF object", "of BPF only maps are saved",
        "checkpoint the program while it has none open";
    /// `perf_event_open(2)`.
    PerfEvent: "a perf event", "the kernel does not tell how it was set up",
        "stop profiling the program first";
    /// `memfd_secret(2)`.
    SecretMemory: "secret memory", "it is hidden from all other processes by design",
        "checkpoint the program while it has none open";
    /// A character device whose driver keeps state for whoever has it open.
    CharacterDevice: "a character device", "its driver may hold state that nobody can read",
        "only null, zero, full, random and urandom, and kmsg for writing, are known to hold none";
    /// A file of debugfs or tracefs.
    Debugging: "a file of debugfs or tracefs", "it may keep what nobody can read or set",
        "stop debugging or tracing first";
    /// A block device.
    BlockDevice: "a block device", "what it was opened for, exclusively or not, cannot be read",
        "mount it, or use a file on it";
    /// `seccomp(2)`: who is asked for permission.
    SeccompListener: "a listener of a seccomp filter", "those who wait for its answers cannot be saved",
        "checkpoint the program before it supervises others";
    /// `landlock_create_ruleset(2)`.
    Landlock: "a Landlock ruleset", "the kernel does not show its rules",
        "have the program apply it, and close it, first";
    /// `fsopen(2)`, `fspick(2)`.
    FsContext: "a file system that is being set up (fsopen)", "the kernel does not show its settings",
        "have the program mount it first";
    /// `/dev/kvm` and what comes from there.
    Kvm: "a virtual machine (KVM)", "it takes its own program to save it",
        "have that program save it (QEMU: migrate)";
    /// An inode of the kernel's own that no line above knows.
    Anonymous: "a kernel object", "nothing is known about this kind",
        "checkpoint the program while it has none open";
    /// A shared memory segment of `shmget(2)` or huge pages, opened through
    /// `/proc/PID/map_files`.
    SharedMemory: "a shared memory segment opened as a file", "its kind is not saved yet",
        "close the descriptor and keep the mapping";
    /// A file on a mount that no path leads to any more.
    Detached: "a file on a mount that cannot be seen from here",
        "the mount is detached, or of another mount namespace, so no path leads to the file",
        "run dormouse in the mount namespace of the program (nsenter --mount), or mount the file \
         system again and open the file there";
    /// CRIU: a file some plugin looks after.
    External: "an external file", "it takes the plugin that saved it",
        "restore it with CRIU and that plugin";
    /// CRIU never writes it.
    Undefined: "a file without a kind", "no image has that",
        "dump the program again";
}

/// `/dev/kvm` (`Documentation/admin-guide/devices.txt`).
const KVM: DeviceId = DeviceId { major: 10, minor: 232 };

impl Refusal {
    /// Which kind of file it is, if no room claims it.
    #[must_use]
    pub fn of(probe: &Probe) -> Self {
        if probe.is_anonymous_path() {
            return Self::AnonymousPath;
        }
        match probe.file_system {
            FsMagic::SOCKET => return Self::socket(probe),
            FsMagic::PID => return Self::Pidfd,
            FsMagic::SECRET_MEMORY => return Self::SecretMemory,
            FsMagic::ANON_INODE => return Self::anonymous(probe),
            _ => {}
        }
        match probe.file_type() {
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice if !probe.mounted => Self::Detached,
            FileType::CharacterDevice if probe.device() == KVM => Self::Kvm,
            FileType::CharacterDevice => Self::CharacterDevice,
            FileType::BlockDevice if !probe.mounted => Self::Detached,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Fifo => Self::Detached,
            FileType::RegularFile | FileType::Directory | FileType::Symlink => {
                match (probe.mounted, probe.file_system) {
                    (true, FsMagic::DEBUG | FsMagic::TRACE) => Self::Debugging,
                    (true, _) => Self::Anonymous,
                    (false, _) if probe.is_segment_link() => Self::SharedMemory,
                    (false, _) => Self::Detached,
                }
            }
            FileType::Unknown => Self::Anonymous,
        }
    }

    fn socket(probe: &Probe) -> Self {
        match probe.socket_family() {
            Some(SocketFamily::VSOCK) => Self::Vsock,
            Some(SocketFamily::ALG) => Self::Alg,
            Some(SocketFamily::XDP) => Self::Xdp,
            Some(SocketFamily::CAN) => Self::Can,
            Some(SocketFamily::BLUETOOTH) => Self::Bluetooth,
            Some(SocketFamily::KEY) => Self::Key,
            Some(SocketFamily::PPPOX) => Self::Pppox,
            Some(family) if SocketFamily::TRANSPORTS.contains(&family) => Self::Transport,
            _ => Self::Socket,
        }
    }

    fn anonymous(probe: &Probe) -> Self {
        match probe.anonymous_inode() {
            Some("pidfd") => Self::Pidfd,
            Some("perf_event") => Self::PerfEvent,
            Some("seccomp notify") => Self::SeccompListener,
            Some("landlock-ruleset") => Self::Landlock,
            Some("fscontext") => Self::FsContext,
            Some(name) if name.starts_with("kvm-") => Self::Kvm,
            Some("bpf-prog") => Self::BpfProgram,
            Some("bpf_link" | "bpf-link") => Self::BpfLink,
            Some(name) if name.starts_with("bpf") || name == "btf" => Self::Bpf,
            _ => Self::Anonymous,
        }
    }

    /// The error for a file that a program has open.
    pub(crate) fn error(self, link: &Path) -> Error {
        self.with(link.as_os_str().to_owned())
    }

    /// The error for an entry of `files.img`.
    pub(crate) fn error_of_image(self, id: FileId) -> Error {
        self.with(format!("file {id} of the images").into())
    }

    fn with(self, detail: OsString) -> Error {
        let (object, reason, hint) = (self.object(), self.reason(), self.hint());
        Error::Unsupported { object, detail, reason, hint }
    }
}

/// An entry of `files.img` with a tag that CRIU does not have.
pub(super) fn unknown_tag(id: FileId) -> Error {
    corrupt(ImageName::Files, "file", id.as_raw(), "its kind is none")
}
