//! Where the members are that are read.

use epoll_interest::kernel_memory::{Btf, BtfError, OpenFiles, Struct, Tasks};

use super::anonymous::NameMembers;
use super::eventfd::EventfdMembers;

/// Offsets in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) tasks: Tasks,
    pub(super) files: OpenFiles,
    pub(super) file: FileMembers,
    pub(super) inode: InodeMembers,
    pub(super) shows: usize,
    pub(super) of_mount: usize,
    pub(super) mount_id: usize,
    pub(super) locks: LockMembers,
    pub(super) socket: SocketMembers,
    pub(super) names: NameMembers,
    pub(super) eventfd: EventfdMembers,
}

/// Of a `struct file`, which is read as far as `span` in one go.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileMembers {
    pub(super) span: usize,
    pub(super) operations: usize,
    pub(super) flags: usize,
    pub(super) position: usize,
    pub(super) mount: usize,
    pub(super) dentry: usize,
    pub(super) inode: usize,
    pub(super) private: usize,
    pub(super) owner: usize,
}

/// Of a `struct inode`, likewise.
#[derive(Clone, Copy, Debug)]
pub(super) struct InodeMembers {
    pub(super) span: usize,
    pub(super) mode: usize,
    pub(super) user: usize,
    pub(super) group: usize,
    pub(super) number: usize,
    pub(super) device: usize,
}

/// Where an inode says what is locked.
#[derive(Clone, Copy, Debug)]
pub(super) struct LockMembers {
    /// Of a `struct inode`: where its `struct file_lock_context` is.
    pub(super) context: usize,
    /// The lists that are there.
    pub(super) lists: [usize; 3],
}

/// Of a `struct socket` and what it leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct SocketMembers {
    pub(super) sock: usize,
    pub(super) family: usize,
    pub(super) error: usize,
    pub(super) errors: usize,
    pub(super) peer: [usize; 2],
    /// Where a unix socket has its byte out of band.
    pub(super) urgent: Option<usize>,
}

/// A structure, of which no more is read than what is asked for: behind it is
/// another's memory, or none.
struct Read<'a> {
    structure: &'a Struct<'a>,
    span: usize,
}

impl Read<'_> {
    /// Where a member is that has so many bytes.
    fn member(&mut self, name: &'static str, bytes: usize) -> Result<usize, BtfError> {
        let at = self.structure.offset(name)?;
        self.up_to(at + bytes, name)?;
        Ok(at)
    }

    fn up_to(&mut self, end: usize, name: &'static str) -> Result<(), BtfError> {
        /// As much as is read at once ([`KernelMemory::read`]).
        ///
        /// [`KernelMemory::read`]: epoll_interest::kernel_memory::KernelMemory::read
        const MOST: usize = 256;
        if end > MOST.min(self.structure.size()) {
            return Err(BtfError::NoMember(self.structure.name(), name));
        }
        self.span = self.span.max(end);
        Ok(())
    }
}

impl FileMembers {
    fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let structure = &btf.structure("file")?;
        // Before 6.12 it is a structure in the file itself.
        if structure.member("f_owner").is_ok() {
            return Err(BtfError::NoMember("file", "f_owner"));
        }
        let mut file = Read { structure, span: 0 };
        let (place, path) = (structure.offset("f_path")?, btf.structure("path")?);
        let (mount, dentry) = (place + path.offset("mnt")?, place + path.offset("dentry")?);
        file.up_to(mount.max(dentry) + 8, "f_path")?;
        Ok(Self {
            operations: file.member("f_op", 8)?,
            flags: file.member("f_flags", 4)?,
            position: file.member("f_pos", 8)?,
            mount,
            dentry,
            inode: file.member("f_inode", 8)?,
            private: file.member("private_data", 8)?,
            owner: file.member("f_owner", 8)?,
            span: file.span,
        })
    }
}

impl InodeMembers {
    fn new(inode: &Struct<'_>) -> Result<Self, BtfError> {
        let mut inode = Read { structure: inode, span: 0 };
        Ok(Self {
            mode: inode.member("i_mode", 2)?,
            user: inode.member("i_uid", 4)?,
            group: inode.member("i_gid", 4)?,
            number: inode.member("i_ino", 8)?,
            device: inode.member("i_sb", 8)?,
            span: inode.span,
        })
    }
}

impl LockMembers {
    fn new(btf: &Btf<'_>, inode: &Struct<'_>) -> Result<Self, BtfError> {
        let context = btf.structure("file_lock_context")?;
        let list = |name| context.offset(name);
        Ok(Self {
            context: inode.offset("i_flctx")?,
            lists: [list("flc_flock")?, list("flc_posix")?, list("flc_lease")?],
        })
    }
}

impl Layout {
    pub(super) fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let (inode, mount, sock) =
            (btf.structure("inode")?, btf.structure("mount")?, btf.structure("sock")?);
        let unix = btf.structure("unix_sock");
        let queue_len = btf.structure("sk_buff_head")?.offset("qlen")?;
        Ok(Self {
            tasks: Tasks::new(btf)?,
            files: OpenFiles::new(btf)?,
            file: FileMembers::new(btf)?,
            inode: InodeMembers::new(&inode)?,
            shows: btf.structure("file_operations")?.offset("show_fdinfo")?,
            of_mount: mount.offset("mnt")?,
            mount_id: mount.offset("mnt_id")?,
            locks: LockMembers::new(btf, &inode)?,
            socket: SocketMembers {
                sock: btf.structure("socket")?.offset("sk")?,
                family: sock.member("__sk_common")?.0
                    + btf.structure("sock_common")?.offset("skc_family")?,
                error: sock.offset("sk_err")?,
                errors: sock.offset("sk_error_queue")? + queue_len,
                peer: [sock.offset("sk_peer_pid")?, sock.offset("sk_peer_cred")?],
                urgent: unix.and_then(|unix| unix.offset("oob_skb")).ok(),
            },
            names: NameMembers::new(btf)?,
            eventfd: EventfdMembers::new(btf)?,
        })
    }
}
