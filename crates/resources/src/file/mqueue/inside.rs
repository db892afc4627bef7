//! A queue in the kernel's own memory.

use std::os::fd::BorrowedFd;

use dormouse_kernel::mqueue::Room;
use dormouse_kernel::{HostPid, PAGE_SIZE};
use epoll_interest::kernel_memory::{
    Address, Btf, BtfError, KernelMemory, Numbers, OpenError, OpenFiles, ReadError,
};

use crate::steady::steady;

/// Reads queues.
pub(super) struct Inside {
    memory: KernelMemory,
    layout: Layout,
}

/// What is found there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) room: Room,
    /// Who its memory is charged to.
    pub(super) user: u32,
    /// In the order in which they will be received.
    pub(super) messages: Vec<Message>,
    pub(super) listener: Option<Listener>,
}

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) priority: u32,
    pub(super) bytes: Vec<u8>,
}

/// Who is to be told of the next message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listener {
    /// `None`: it has no number in this process's namespace.
    pub(super) process: Option<HostPid>,
    /// `SIGEV_*`.
    pub(super) how: u32,
    pub(super) signal: u32,
    /// `sigev_value`.
    pub(super) value: u64,
    /// The inode of the netlink socket, and what it is sent.
    pub(super) socket: Option<(u64, Vec<u8>)>,
}

/// More messages, and more nodes of a tree, than any queue has (`HARD_MSGMAX`).
const MOST: usize = 1 << 16;
/// `NOTIFY_COOKIE_LEN`.
pub(super) const COOKIE: usize = 32;

/// Offsets in bytes.
struct Layout {
    files: OpenFiles,
    file_inode: usize,
    file_dentry: usize,
    dentry_count: usize,
    inode_number: usize,
    queue_inode: usize,
    queue_tree: usize,
    queue_attributes: usize,
    queue_notify: usize,
    queue_notify_owner: usize,
    queue_notify_sock: usize,
    queue_notify_cookie: usize,
    queue_user: usize,
    user_id: usize,
    node_left: usize,
    node_right: usize,
    /// From the node to the messages of its priority.
    node_messages: usize,
    message_next: usize,
    message_priority: usize,
    message_len: usize,
    message_segment: usize,
    message_size: usize,
    sock_socket: usize,
    socket_file: usize,
    packet_data: usize,
    numbers: Numbers,
}

impl Layout {
    fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let inode = btf.structure("inode")?;
        let file = btf.structure("file")?;
        let (count, of_count) = btf.structure("dentry")?.member("d_lockref")?;
        let queue = btf.structure("mqueue_inode_info")?;
        let branch = btf.structure("posix_msg_tree_node")?;
        let node = btf.structure("rb_node")?;
        let message = btf.structure("msg_msg")?;
        Ok(Self {
            files: OpenFiles::new(btf)?,
            file_inode: file.offset("f_inode")?,
            file_dentry: file.offset("f_path")? + btf.structure("path")?.offset("dentry")?,
            dentry_count: count + of_count.offset("count")?,
            inode_number: inode.offset("i_ino")?,
            queue_inode: queue.offset("vfs_inode")?,
            queue_tree: queue.offset("msg_tree")?,
            queue_attributes: queue.offset("attr")?,
            queue_notify: queue.offset("notify")?,
            queue_notify_owner: queue.offset("notify_owner")?,
            queue_notify_sock: queue.offset("notify_sock")?,
            queue_notify_cookie: queue.offset("notify_cookie")?,
            queue_user: queue.offset("ucounts")?,
            user_id: btf.structure("ucounts")?.offset("uid")?,
            node_left: node.offset("rb_left")?,
            node_right: node.offset("rb_right")?,
            // The node is the first member.
            node_messages: branch.offset("msg_list")? - branch.offset("rb_node")?,
            message_next: message.offset("m_list")?,
            message_priority: message.offset("m_type")?,
            message_len: message.offset("m_ts")?,
            message_segment: message.offset("next")?,
            message_size: message.size(),
            sock_socket: btf.structure("sock")?.offset("sk_socket")?,
            socket_file: btf.structure("socket")?.offset("file")?,
            packet_data: btf.structure("sk_buff")?.offset("data")?,
            numbers: Numbers::new(btf)?,
        })
    }
}

impl Inside {
    pub(super) fn open() -> Result<Self, OpenError> {
        let (memory, layout) = KernelMemory::open(Layout::new)?;
        Ok(Self { memory, layout })
    }

    /// The queue behind a descriptor of this process. `None`: it never stood
    /// still.
    pub(super) fn read(&mut self, file: BorrowedFd<'_>) -> Result<Option<Found>, ReadError> {
        steady(|| self.try_read(file))
    }

    /// How many files are open on the queue behind a descriptor of this process, which has
    /// lost its name. Whoever looks at one of them just now counts too.
    pub(super) fn holders(&mut self, file: BorrowedFd<'_>) -> Result<u32, ReadError> {
        let file = self.layout.files.of(&mut self.memory, &[file])?[0];
        let dentry = self.word(file, self.layout.file_dentry)?;
        self.word(dentry, self.layout.dentry_count).map(|word| word as u32)
    }

    fn word(&mut self, at: Address, offset: usize) -> Result<u64, ReadError> {
        self.memory.word(at + offset as u64)
    }

    fn try_read(&mut self, file: BorrowedFd<'_>) -> Result<Found, ReadError> {
        let file = self.layout.files.of(&mut self.memory, &[file])?[0];
        let queue = self.word(file, self.layout.file_inode)? - self.layout.queue_inode as u64;
        // `struct mq_attr`: flags, and these.
        let [messages, message_len] = [8, 16];
        let attributes = self.layout.queue_attributes;
        let room = Room {
            messages: self.word(queue, attributes + messages)?,
            message_len: self.word(queue, attributes + message_len)?,
        };
        let user = self.word(queue, self.layout.queue_user)?;
        Ok(Found {
            room,
            user: self.word(user, self.layout.user_id)? as u32,
            messages: self.messages(queue)?,
            listener: self.listener(queue)?,
        })
    }

    fn messages(&mut self, queue: Address) -> Result<Vec<Message>, ReadError> {
        let Layout { message_next, node_messages, .. } = self.layout;
        let root = self.word(queue, self.layout.queue_tree)?;
        let mut messages = Vec::new();
        for node in self.nodes(root)? {
            let head = node + node_messages as u64;
            let mut at = self.memory.word(head)?;
            while at != head {
                if messages.len() >= MOST {
                    return Err(ReadError::Fault);
                }
                messages.push(self.message(at - message_next as u64)?);
                at = self.memory.word(at)?;
            }
        }
        Ok(messages)
    }

    /// The nodes of a tree, the greatest first.
    fn nodes(&mut self, root: Address) -> Result<Vec<Address>, ReadError> {
        let (mut nodes, mut above, mut at) = (Vec::new(), Vec::new(), root);
        loop {
            while at != 0 {
                if nodes.len() + above.len() >= MOST {
                    return Err(ReadError::Fault);
                }
                above.push(at);
                at = self.word(at, self.layout.node_right)?;
            }
            let Some(node) = above.pop() else { return Ok(nodes) };
            nodes.push(node);
            at = self.word(node, self.layout.node_left)?;
        }
    }

    /// A message, whose bytes follow its head, and then each of its segments
    /// (`ipc/msgutil.c`).
    fn message(&mut self, at: Address) -> Result<Message, ReadError> {
        let Layout { message_priority, message_len, message_segment, message_size, .. } =
            self.layout;
        const NEXT: usize = size_of::<Address>();
        let priority = self.word(at, message_priority)? as u32;
        let len = self.word(at, message_len)? as usize;
        let (mut head, mut part) = (message_size, at);
        let mut next = self.word(at, message_segment)?;
        let mut bytes = Vec::new();
        loop {
            let some = (len - bytes.len()).min(PAGE_SIZE as usize - head);
            bytes.extend(self.memory.bytes(part + head as u64, some)?);
            if bytes.len() >= len {
                return Ok(Message { priority, bytes });
            }
            (head, part) = (NEXT, next);
            next = self.memory.word(part)?;
        }
    }

    fn listener(&mut self, queue: Address) -> Result<Option<Listener>, ReadError> {
        const SIGEV_THREAD: u32 = libc::SIGEV_THREAD as u32;
        let owner = self.word(queue, self.layout.queue_notify_owner)?;
        if owner == 0 {
            return Ok(None);
        }
        // `struct sigevent`: the value, signal and how.
        let value = self.word(queue, self.layout.queue_notify)?;
        let [signal, how] = [0, 32].map(|shift| {
            self.word(queue, self.layout.queue_notify + 8).map(|w| (w >> shift) as u32)
        });
        let (signal, how) = (signal?, how?);
        let socket = if how == SIGEV_THREAD { Some(self.socket(queue)?) } else { None };
        let process = self.layout.numbers.seen(&mut self.memory, owner)?;
        let process = process.and_then(HostPid::from_raw);
        Ok(Some(Listener { process, how, signal, value, socket }))
    }

    fn socket(&mut self, queue: Address) -> Result<(u64, Vec<u8>), ReadError> {
        let sock = self.word(queue, self.layout.queue_notify_sock)?;
        let socket = self.word(sock, self.layout.sock_socket)?;
        let file = self.word(socket, self.layout.socket_file)?;
        let inode = self.word(file, self.layout.file_inode)?;
        let packet = self.word(queue, self.layout.queue_notify_cookie)?;
        let cookie = self.word(packet, self.layout.packet_data)?;
        let number = self.word(inode, self.layout.inode_number)?;
        Ok((number, self.memory.read(&[cookie], COOKIE)?))
    }
}
