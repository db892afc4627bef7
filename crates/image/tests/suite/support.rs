//! The images a real CRIU 4.2 wrote (x86_64, Linux 6.18): a Python process with two threads and a
//! child, which hold a pipe and a unix socket pair with bytes in them, an epoll, an eventfd and a
//! listening TCP socket. The pages are left out.

use std::path::{Path, PathBuf};

use dormouse_image::error::Result;
use dormouse_image::framing::{Reader, write_header, write_message};
use dormouse_image::name::ImageName;
use dormouse_image::proto::core::{CoreEntry, TaskKobjIdsEntry};
use dormouse_image::proto::files::bpfmap::BpfmapDataEntry;
use dormouse_image::proto::files::fsnotify::IrmapCacheEntry;
use dormouse_image::proto::files::inet::TcpStreamEntry;
use dormouse_image::proto::files::memfd::MemfdInodeEntry;
use dormouse_image::proto::files::mqueue::MqueueEntry;
use dormouse_image::proto::files::pipe::PipeDataEntry;
use dormouse_image::proto::files::reg::{GhostChunkEntry, GhostFileEntry, RemapFilePathEntry};
use dormouse_image::proto::files::socket::SkPacketEntry;
use dormouse_image::proto::files::tty::{TtyDataEntry, TtyInfoEntry};
use dormouse_image::proto::files::{FdinfoEntry, FileEntry};
use dormouse_image::proto::namespace::{ipc, mnt, net, pid, time, user, uts};
use dormouse_image::proto::pagemap::{PagemapEntry, PagemapHead};
use dormouse_image::proto::{
    apparmor, cgroup, cpuinfo, creds, file_lock, fs, inventory, mm, pstree, seccomp, stats,
};
use prost::Message;

/// Where they are.
pub(crate) fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sleeper")
}

/// Name and contents of each.
pub(crate) fn images() -> Vec<(ImageName, Vec<u8>)> {
    let mut images: Vec<_> = std::fs::read_dir(golden())
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = ImageName::parse(entry.file_name().as_encoded_bytes()).unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect();
    images.sort();
    assert!(!images.is_empty());
    images
}

/// Decodes an image and encodes it again.
pub(crate) fn recode(name: ImageName, bytes: &[u8]) -> Result<Vec<u8>> {
    use ImageName as I;
    let magic = name.kind().magic;
    let path = PathBuf::from(name.to_string());
    let mut copy = Recoder { reader: Reader::from_bytes(bytes, magic, &path)?, out: Vec::new() };
    write_header(&mut copy.out, magic).unwrap();
    match name {
        I::Inventory => copy.one::<inventory::InventoryEntry>()?,
        I::PsTree => copy.all::<pstree::PstreeEntry>(|_| 0)?,
        I::Files => copy.all::<FileEntry>(|_| 0)?,
        I::SkQueues => copy.all::<SkPacketEntry>(|m| m.length.into())?,
        I::PipesData | I::FifoData => copy.all::<PipeDataEntry>(|m| m.bytes.into())?,
        I::TtyInfo => copy.all::<TtyInfoEntry>(|_| 0)?,
        I::TtyData => copy.all::<TtyDataEntry>(|_| 0)?,
        I::RemapFpath => copy.all::<RemapFilePathEntry>(|_| 0)?,
        I::Cgroup => copy.one::<cgroup::CgroupEntry>()?,
        I::FileLocks => copy.all::<file_lock::FileLockEntry>(|_| 0)?,
        I::Seccomp => copy.one::<seccomp::SeccompEntry>()?,
        I::AppArmor => copy.one::<apparmor::ApparmorEntry>()?,
        I::MemfdInode => copy.all::<MemfdInodeEntry>(|_| 0)?,
        I::BpfmapData => {
            copy.all::<BpfmapDataEntry>(|m| u64::from(m.keys_bytes) + u64::from(m.values_bytes))?
        }
        I::Mqueue => copy.all::<MqueueEntry>(|m| m.lens.iter().copied().map(u64::from).sum())?,
        I::BinfmtMisc => copy.all::<mnt::BinfmtMiscEntry>(|_| 0)?,
        I::CpuInfo => copy.one::<cpuinfo::CpuinfoEntry>()?,
        I::IrmapCache => copy.all::<IrmapCacheEntry>(|_| 0)?,
        I::StatsDump | I::StatsRestore => copy.one::<stats::StatsEntry>()?,
        I::Core(_) => copy.one::<CoreEntry>()?,
        I::Ids(_) => copy.one::<TaskKobjIdsEntry>()?,
        I::Mm(_) => copy.one::<mm::MmEntry>()?,
        I::Creds(_) => copy.one::<creds::CredsEntry>()?,
        I::Fs(_) => copy.one::<fs::FsEntry>()?,
        I::Fdinfo(_) => copy.all::<FdinfoEntry>(|_| 0)?,
        I::Pagemap(_) | I::PagemapShmem(_) => {
            copy.one::<PagemapHead>()?;
            copy.all::<PagemapEntry>(|_| 0)?;
        }
        I::GhostFile(_) => {
            let ghost: GhostFileEntry = copy.reader.need_message()?;
            copy.put(&ghost);
            if ghost.chunks() {
                copy.all::<GhostChunkEntry>(|m| m.len)?;
            } else {
                copy.payload(copy.reader.remaining())?;
            }
        }
        I::TcpStream(_) => {
            copy.all::<TcpStreamEntry>(|m| u64::from(m.inq_len) + u64::from(m.outq_len))?;
        }
        I::UtsNs(_) => copy.one::<uts::UtsnsEntry>()?,
        I::TimeNs(_) => copy.one::<time::TimensEntry>()?,
        I::PidNs(_) => copy.one::<pid::PidnsEntry>()?,
        I::UserNs(_) => copy.one::<user::UsernsEntry>()?,
        I::IpcVar(_) => copy.one::<ipc::IpcVarEntry>()?,
        I::IpcShm(_) => copy.all::<ipc::IpcShmEntry>(|m| {
            if m.in_pagemaps() { 0 } else { m.size.next_multiple_of(4) }
        })?,
        I::IpcMsg(_) => {
            while let Some(queue) = copy.reader.next_message::<ipc::IpcMsgEntry>()? {
                copy.put(&queue);
                for _ in 0..queue.qnum {
                    let message: ipc::IpcMsg = copy.reader.need_message()?;
                    copy.put(&message);
                    copy.payload(u64::from(message.msize).next_multiple_of(8))?;
                }
            }
        }
        I::IpcSem(_) => {
            copy.all::<ipc::IpcSemEntry>(|m| (2 * u64::from(m.nsems)).next_multiple_of(8))?;
        }
        I::Mounts(_) => copy.all::<mnt::MntEntry>(|_| 0)?,
        I::Autofs(_) => copy.all::<mnt::AutofsEntry>(|_| 0)?,
        I::NetNs(_) => copy.one::<net::NetnsEntry>()?,
        I::NetDev(_) => copy.all::<net::NetDeviceEntry>(|_| 0)?,
        I::Pages(_)
        | I::IfAddr(_)
        | I::Route(_)
        | I::Route6(_)
        | I::Rule(_)
        | I::IpTables(_)
        | I::Ip6Tables(_)
        | I::NfTables(_)
        | I::Conntrack(_)
        | I::ConntrackExpect(_)
        | I::Tmpfs(_)
        | I::TmpfsDev(_) => copy.payload(copy.reader.remaining())?,
    }
    copy.reader.end()?;
    Ok(copy.out)
}

struct Recoder<'a> {
    reader: Reader<std::io::Cursor<&'a [u8]>>,
    out: Vec<u8>,
}

impl Recoder<'_> {
    fn one<M: Message + Default + PartialEq>(&mut self) -> Result<()> {
        let message: M = self.reader.need_message()?;
        self.put(&message);
        Ok(())
    }

    fn all<M: Message + Default + PartialEq>(&mut self, payload: fn(&M) -> u64) -> Result<()> {
        while let Some(message) = self.reader.next_message::<M>()? {
            self.put(&message);
            self.payload(payload(&message))?;
        }
        Ok(())
    }

    fn payload(&mut self, len: u64) -> Result<()> {
        self.out.extend(self.reader.payload(len)?);
        Ok(())
    }

    fn put<M: Message + Default + PartialEq>(&mut self, message: &M) {
        write_message(&mut self.out, message, &mut Vec::new()).unwrap();
        // What we write must read back, whatever was read.
        assert!(M::decode(&*message.encode_to_vec()).unwrap() == *message);
    }
}
