//! Image files by name: one table of file name, magic and message types.

use std::any::TypeId;
use std::fmt;

use crate::magic::Magic;
use crate::proto::core::{CoreEntry, TaskKobjIdsEntry};
use crate::proto::creds::CredsEntry;
use crate::proto::file_lock::FileLockEntry;
use crate::proto::files::bpfmap::BpfmapDataEntry;
use crate::proto::files::fsnotify::IrmapCacheEntry;
use crate::proto::files::inet::TcpStreamEntry;
use crate::proto::files::memfd::MemfdInodeEntry;
use crate::proto::files::mqueue::MqueueEntry;
use crate::proto::files::pipe::PipeDataEntry;
use crate::proto::files::reg::{GhostChunkEntry, GhostFileEntry, RemapFilePathEntry};
use crate::proto::files::socket::SkPacketEntry;
use crate::proto::files::tty::{TtyDataEntry, TtyInfoEntry};
use crate::proto::files::{FdinfoEntry, FileEntry};
use crate::proto::namespace::{ipc, mnt, net, pid, time, user, uts};
use crate::proto::pagemap::{PagemapEntry, PagemapHead};
use crate::proto::{apparmor, cgroup, cpuinfo, fs, inventory, mm, pstree, seccomp, stats};

/// One row of the table.
#[derive(Clone, Copy)]
pub struct ImageKind {
    prefix: &'static str,
    id: Id,
    suffix: &'static str,
    /// How such a file begins.
    pub magic: Magic,
    messages: &'static [fn() -> TypeId],
}

impl ImageKind {
    /// What the file name begins with; all of it, if there is one such file only.
    #[must_use]
    pub fn prefix(&self) -> &'static str {
        self.prefix
    }

    /// Whether messages of type `M` are found in such a file.
    #[must_use]
    pub fn holds<M: 'static>(&self) -> bool {
        self.messages.iter().any(|id| id() == TypeId::of::<M>())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Id {
    None,
    Decimal,
    Hex,
}

macro_rules! images {
    (
        plain { $( $(#[$pdoc:meta])* $p:ident = $pname:literal, $pmagic:expr, [$($pmsg:ty),*]; )* }
        numbered { $( $(#[$ndoc:meta])* $n:ident($id:ty) = $pre:literal $form:ident $suf:literal, $nmagic:expr, [$($nmsg:ty),*]; )* }
    ) => {
        /// An image file of a dump. `Display` gives its name; [`ImageName::parse`] reads one back.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ImageName {
            $( $(#[$pdoc])* $p, )*
            $( $(#[$ndoc])* $n($id), )*
        }

        impl ImageName {
            /// The row of the table.
            #[must_use]
            pub fn kind(self) -> ImageKind {
                match self {
                    $( Self::$p => ImageKind {
                        prefix: $pname, id: Id::None, suffix: "", magic: $pmagic,
                        messages: &[$(TypeId::of::<$pmsg>),*],
                    }, )*
                    $( Self::$n(_) => ImageKind {
                        prefix: $pre, id: Id::$form, suffix: $suf, magic: $nmagic,
                        messages: &[$(TypeId::of::<$nmsg>),*],
                    }, )*
                }
            }

            fn id(self) -> u64 {
                match self {
                    $( Self::$p => 0, )*
                    $( Self::$n(id) => u64::from(id), )*
                }
            }

            /// The image of this file name, if it is one.
            #[must_use]
            pub fn parse(name: &[u8]) -> Option<Self> {
                let name = std::str::from_utf8(name).ok()?;
                $( if name == $pname { return Some(Self::$p); } )*
                $( if let Some(id) = parse_id::<$id>(name, $pre, Id::$form, $suf) {
                    return Some(Self::$n(id));
                } )*
                None
            }

            #[cfg(test)]
            pub(crate) fn samples() -> Vec<Self> {
                vec![ $( Self::$p, )* $( Self::$n(0), Self::$n(<$id>::MAX), )* ]
            }
        }
    };
}

images! {
    plain {
        /// What the directory as a whole says. It is written last: without it there is no dump.
        Inventory = "inventory.img", Magic::Bare(0x5831_3116), [inventory::InventoryEntry];
        /// The process tree.
        PsTree = "pstree.img", Magic::Common(0x5027_3030), [pstree::PstreeEntry];
        /// All open file descriptions.
        Files = "files.img", Magic::Common(0x5630_3138), [FileEntry];
        /// Datagrams in flight: messages, each with its bytes.
        SkQueues = "sk-queues.img", Magic::Common(0x5626_4026), [SkPacketEntry];
        /// What is in the pipes: messages, each with its bytes.
        PipesData = "pipes-data.img", Magic::Common(0x5645_3709), [PipeDataEntry];
        /// What is in the fifos: messages, each with its bytes.
        FifoData = "fifo-data.img", Magic::Common(0x5933_3054), [PipeDataEntry];
        /// Terminals.
        TtyInfo = "tty-info.img", Magic::Common(0x5945_3036), [TtyInfoEntry];
        /// What is in the terminals' buffers.
        TtyData = "tty-data.img", Magic::Common(0x5941_3026), [TtyDataEntry];
        /// How files without a path are reached.
        RemapFpath = "remap-fpath.img", Magic::Common(0x5913_3954), [RemapFilePathEntry];
        /// Control groups.
        Cgroup = "cgroup.img", Magic::Common(0x5938_3330), [cgroup::CgroupEntry];
        /// File locks.
        FileLocks = "filelocks.img", Magic::Common(0x5432_3616), [FileLockEntry];
        /// Seccomp filters.
        Seccomp = "seccomp.img", Magic::Common(0x6441_3049), [seccomp::SeccompEntry];
        /// AppArmor policies.
        AppArmor = "apparmor.img", Magic::Common(0x5942_3047), [apparmor::ApparmorEntry];
        /// Inodes of memfds.
        MemfdInode = "memfd.img", Magic::Common(0x4845_3499), [MemfdInodeEntry];
        /// Contents of BPF maps: messages, each with its bytes.
        BpfmapData = "bpfmap-data.img", Magic::Common(0x6432_4033), [BpfmapDataEntry];
        /// POSIX message queues: messages, each with the bytes of what is in the queue. Only dormouse
        /// has it.
        Mqueue = "mqueue.img", Magic::Common(0x4d51_5545), [MqueueEntry];
        /// Registered binary formats.
        BinfmtMisc = "binfmt-misc.img", Magic::Common(0x6734_3323), [mnt::BinfmtMiscEntry];
        /// The CPU of the dump.
        CpuInfo = "cpuinfo.img", Magic::Common(0x6140_4013), [cpuinfo::CpuinfoEntry];
        /// Paths of inodes found by scanning; a cache.
        IrmapCache = "irmap-cache", Magic::Service(0x5700_4059), [IrmapCacheEntry];
        /// What the dump cost.
        StatsDump = "stats-dump", Magic::Service(0x5709_3306), [stats::StatsEntry];
        /// What the restore cost.
        StatsRestore = "stats-restore", Magic::Service(0x5709_3306), [stats::StatsEntry];
    }
    numbered {
        /// State of a thread; the number is its tid.
        Core(u32) = "core-" Decimal ".img", Magic::Common(0x5505_3847), [CoreEntry];
        /// Kernel objects of a process, by pid.
        Ids(u32) = "ids-" Decimal ".img", Magic::Common(0x5443_2030), [TaskKobjIdsEntry];
        /// Address space of a process, by pid.
        Mm(u32) = "mm-" Decimal ".img", Magic::Common(0x5749_2820), [mm::MmEntry];
        /// Credentials of a process, by pid; now part of `Core`.
        Creds(u32) = "creds-" Decimal ".img", Magic::Common(0x5402_3547), [CredsEntry];
        /// Working directory, root and umask, by pid (of a thread with its own: by its
        /// [`fs_id`](crate::proto::core::ThreadCoreEntry::fs_id)).
        Fs(u32) = "fs-" Decimal ".img", Magic::Common(0x5140_3912), [fs::FsEntry];
        /// A descriptor table, by [`files_id`](crate::proto::core::TaskKobjIdsEntry::files_id).
        Fdinfo(u32) = "fdinfo-" Decimal ".img", Magic::Common(0x5621_3732), [FdinfoEntry];
        /// Which pages of a process are stored, by pid.
        Pagemap(u32) = "pagemap-" Decimal ".img", Magic::Common(0x5608_4025), [PagemapHead, PagemapEntry];
        /// Which pages of a shared memory object are stored, by its id.
        PagemapShmem(u64) = "pagemap-shmem-" Decimal ".img", Magic::Common(0x5608_4025), [PagemapHead, PagemapEntry];
        /// Contents of pages, by [`pages_id`](crate::proto::pagemap::PagemapHead::pages_id).
        Pages(u32) = "pages-" Decimal ".img", Magic::Raw, [];
        /// A file without a path, by ghost id. A message, then its contents.
        GhostFile(u32) = "ghost-file-" Hex ".img", Magic::Common(0x5258_3605), [GhostFileEntry, GhostChunkEntry];
        /// An open TCP connection, by the socket's inode. A message, then the queues.
        TcpStream(u32) = "tcp-stream-" Hex ".img", Magic::Common(0x5146_5506), [TcpStreamEntry];
        /// Host name; this and all below are by namespace id.
        UtsNs(u32) = "utsns-" Decimal ".img", Magic::Common(0x5447_3203), [uts::UtsnsEntry];
        /// Clock offsets.
        TimeNs(u32) = "timens-" Decimal ".img", Magic::Common(0x4311_4433), [time::TimensEntry];
        /// A pid namespace given from outside.
        PidNs(u32) = "pidns-" Decimal ".img", Magic::Common(0x6115_7326), [pid::PidnsEntry];
        /// Id mappings.
        UserNs(u32) = "userns-" Decimal ".img", Magic::Common(0x5547_4906), [user::UsernsEntry];
        /// System V IPC settings.
        IpcVar(u32) = "ipcns-var-" Decimal ".img", Magic::Common(0x5311_5007), [ipc::IpcVarEntry];
        /// System V shared memory: messages, each with its bytes unless `in_pagemaps`.
        IpcShm(u32) = "ipcns-shm-" Decimal ".img", Magic::Common(0x4628_3044), [ipc::IpcShmEntry];
        /// System V message queues, each with its messages.
        IpcMsg(u32) = "ipcns-msg-" Decimal ".img", Magic::Common(0x5545_3737), [ipc::IpcMsgEntry, ipc::IpcMsg];
        /// System V semaphores: messages, each with its values.
        IpcSem(u32) = "ipcns-sem-" Decimal ".img", Magic::Common(0x5957_3019), [ipc::IpcSemEntry];
        /// Mounts.
        Mounts(u32) = "mountpoints-" Decimal ".img", Magic::Common(0x5556_3928), [mnt::MntEntry];
        /// An autofs mount, by mount id.
        Autofs(u32) = "autofs-" Decimal ".img", Magic::Common(0x4935_3943), [mnt::AutofsEntry];
        /// Network settings.
        NetNs(u32) = "netns-" Decimal ".img", Magic::Common(0x5593_3752), [net::NetnsEntry];
        /// Network devices.
        NetDev(u32) = "netdev-" Decimal ".img", Magic::Common(0x5737_3951), [net::NetDeviceEntry];
        /// Addresses, as `ip addr save` writes them.
        IfAddr(u32) = "ifaddr-" Decimal ".img", Magic::Raw, [];
        /// Routes, as `ip route save` writes them.
        Route(u32) = "route-" Decimal ".img", Magic::Raw, [];
        /// The same for IPv6.
        Route6(u32) = "route6-" Decimal ".img", Magic::Raw, [];
        /// Routing rules, as `ip rule save` writes them.
        Rule(u32) = "rule-" Decimal ".img", Magic::Raw, [];
        /// Output of `iptables-save`.
        IpTables(u32) = "iptables-" Decimal ".img", Magic::Raw, [];
        /// Output of `ip6tables-save`.
        Ip6Tables(u32) = "ip6tables-" Decimal ".img", Magic::Raw, [];
        /// Output of `nft list ruleset`.
        NfTables(u32) = "nftables-" Decimal ".img", Magic::Raw, [];
        /// Conntrack entries, netlink messages.
        Conntrack(u32) = "netns-ct-" Decimal ".img", Magic::Raw, [];
        /// Conntrack expectations, netlink messages.
        ConntrackExpect(u32) = "netns-exp-" Decimal ".img", Magic::Raw, [];
        /// Contents of a tmpfs mount, by mount id; a tar archive.
        Tmpfs(u32) = "tmpfs-" Decimal ".tar.gz.img", Magic::Raw, [];
        /// Contents of a tmpfs mount, by device; a tar archive.
        TmpfsDev(u32) = "tmpfs-dev-" Decimal ".tar.gz.img", Magic::Raw, [];
    }
}

impl ImageName {
    /// Whether the file says something about the dump, the restore or the machine only, so that a
    /// restore without it misses nothing.
    #[must_use]
    pub fn is_about_dump(self) -> bool {
        matches!(self, Self::CpuInfo | Self::IrmapCache | Self::StatsDump | Self::StatsRestore)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ImageKind { prefix, id, suffix, .. } = self.kind();
        match id {
            Id::None => f.write_str(prefix),
            Id::Decimal => write!(f, "{prefix}{}{suffix}", self.id()),
            Id::Hex => write!(f, "{prefix}{:x}{suffix}", self.id()),
        }
    }
}

/// The number in `name`, if it is written as we would write it.
fn parse_id<T: TryFrom<u64>>(name: &str, prefix: &str, form: Id, suffix: &str) -> Option<T> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
    let radix = match form {
        Id::None => return None,
        Id::Decimal => 10,
        Id::Hex => 16,
    };
    let canonical = digits.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
        && (digits == "0" || !digits.starts_with('0'));
    let id = u64::from_str_radix(digits, radix).ok().filter(|_| canonical)?;
    T::try_from(id).ok()
}

#[cfg(test)]
mod tests {
    use super::ImageName;

    #[test]
    fn every_name_reads_back() {
        for name in ImageName::samples() {
            assert_eq!(ImageName::parse(name.to_string().as_bytes()), Some(name), "{name}");
        }
    }

    #[test]
    fn ghost_files_are_named_in_hexadecimal() {
        assert_eq!(ImageName::GhostFile(0x1f).to_string(), "ghost-file-1f.img");
        assert_eq!(ImageName::parse(b"ghost-file-1f.img"), Some(ImageName::GhostFile(0x1f)));
    }

    #[test]
    fn other_names_are_not_images() {
        for name in [
            "core-.img",
            "core-01.img",
            "core-+1.img",
            "core--1.img",
            "core-1.img~",
            "core-4294967296.img",
            "ghost-file-1F.img",
            "pagemap-shmem.img",
            "descriptors.json",
            "parent",
            "dump.log",
            "",
        ] {
            assert_eq!(ImageName::parse(name.as_bytes()), None, "{name}");
        }
        assert_eq!(ImageName::parse(b"core-\xff.img"), None);
    }
}
