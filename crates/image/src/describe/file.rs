//! Open files, for people.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::Serialize;

use crate::describe::{Files, text};
use crate::proto::files::inet::InetSkEntry;
use crate::proto::files::reg::RegFileEntry;
use crate::proto::files::tty::TtyFileEntry;
use crate::proto::files::unix::UnixSkEntry;
use crate::proto::files::{FdType, FdinfoEntry, FileEntry};

/// A descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Descriptor {
    /// Its number.
    pub fd: u32,
    /// The open file description: equal ids are one.
    pub file_id: u32,
    /// Kind of file.
    pub kind: &'static str,
    /// It is closed at execve(2).
    pub cloexec: bool,
    /// Which file: its path, address, state.
    pub detail: String,
}

impl Files {
    pub(super) fn descriptor(&self, fd: &FdinfoEntry) -> Descriptor {
        let (file, fd_type) = (self.entries.get(&fd.id), FdType::try_from(fd.kind).ok());
        Descriptor {
            fd: fd.fd,
            file_id: fd.id,
            kind: kind(file.map_or(fd_type, FileEntry::fd_type)),
            cloexec: fd.flags & 1 != 0,
            detail: file.map_or_else(String::new, |file| self.detail(file)),
        }
    }

    pub(super) fn path(&self, id: u32) -> Option<String> {
        self.reg(id).map(|reg| text(&reg.name))
    }

    fn reg(&self, id: u32) -> Option<&RegFileEntry> {
        self.entries.get(&id)?.reg.as_deref()
    }

    fn detail(&self, file: &FileEntry) -> String {
        // One of these is there, in a sound image.
        let FileEntry {
            kind: _,
            id: _,
            reg,
            isk,
            nsf,
            psk,
            nlsk,
            efd,
            epfd,
            sgfd,
            tunf,
            tfd,
            ify,
            ffy,
            ext,
            usk,
            fifo,
            pipe,
            tty,
            memfd,
            bpf,
            mqueue,
            uring,
            userfaultfd,
            pidfd,
        } = file;
        let details = [
            reg.as_ref().map(|f| text(&f.name)),
            isk.as_ref().map(|f| inet(f)),
            nsf.as_ref().map(|f| format!("namespace {} of type {:#x}", f.ns_id, f.ns_cflag)),
            psk.as_ref().map(|f| format!("protocol {:#06x}", swap(f.protocol))),
            nlsk.as_ref().map(|f| format!("protocol {}, port id {}", f.protocol, f.portid)),
            efd.as_ref().map(|f| format!("count {}", f.counter)),
            epfd.as_ref().map(|f| count(f.tfd.len(), "item")),
            sgfd.as_ref().map(|f| format!("signals {:#x}", f.sigmask)),
            tunf.as_ref().map(|f| f.netdev.as_deref().map_or("not attached".into(), text)),
            tfd.as_ref().map(|f| {
                format!("clock {}, {}.{:09} s left, {} ticks", f.clockid, f.vsec, f.vnsec, f.ticks)
            }),
            ify.as_ref().map(|f| count(f.wd.len(), "watch")),
            ffy.as_ref().map(|f| count(f.mark.len(), "mark")),
            usk.as_ref().map(|f| unix(f)),
            fifo.as_ref().map(|f| {
                f.regf_id.and_then(|id| self.path(id)).unwrap_or(format!("fifo {}", f.pipe_id))
            }),
            pipe.as_ref().map(|f| format!("pipe {}, {}", f.pipe_id, end(f.flags))),
            tty.as_ref().map(|f| self.terminal(f)),
            memfd.as_ref().map(|f| {
                self.memfds.get(&f.inode_id.into()).map_or_else(String::new, |m| text(&m.name))
            }),
            bpf.as_ref().map(|f| format!("map {}", text(&f.map_name))),
            pidfd.as_ref().map(|f| format!("process {}", f.nspid)),
            mqueue.as_ref().map(|f| format!("queue {}", f.queue)),
            uring.as_ref().map(|f| format!("{} requests taken, {} completed", f.taken, f.given)),
            userfaultfd.as_ref().map(|f| format!("{} ranges registered", f.ranges.len())),
            ext.as_ref().map(|f| format!("external file {}", f.id)),
        ];
        details.into_iter().flatten().next().unwrap_or_default()
    }

    fn terminal(&self, tty: &TtyFileEntry) -> String {
        let path = tty.regf_id.and_then(|id| self.path(id));
        let index = self
            .terminals
            .get(&tty.tty_info_id)
            .and_then(|info| info.pty.as_ref())
            .map(|pty| format!("pseudo terminal {}", pty.index));
        match (path, index) {
            (Some(path), Some(index)) => format!("{path}, {index}"),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => String::new(),
        }
    }
}

fn kind(kind: Option<FdType>) -> &'static str {
    match kind {
        Some(FdType::Reg) => "file",
        Some(FdType::Pipe) => "pipe",
        Some(FdType::Fifo) => "fifo",
        Some(FdType::InetSk) => "inet socket",
        Some(FdType::UnixSk) => "unix socket",
        Some(FdType::EventFd) => "eventfd",
        Some(FdType::EventPoll) => "epoll",
        Some(FdType::Inotify) => "inotify",
        Some(FdType::SignalFd) => "signalfd",
        Some(FdType::PacketSk) => "packet socket",
        Some(FdType::Tty) => "terminal",
        Some(FdType::Fanotify) => "fanotify",
        Some(FdType::NetlinkSk) => "netlink socket",
        Some(FdType::Ns) => "namespace",
        Some(FdType::Tun) => "tun",
        Some(FdType::Ext) => "external",
        Some(FdType::TimerFd) => "timerfd",
        Some(FdType::MemFd) => "memfd",
        Some(FdType::BpfMap) => "bpf map",
        Some(FdType::PidFd) => "pidfd",
        Some(FdType::Mqueue) => "message queue",
        Some(FdType::IoUring) => "io_uring",
        Some(FdType::Userfaultfd) => "userfaultfd",
        Some(FdType::Undefined) | None => "unknown",
    }
}

fn count(n: usize, what: &str) -> String {
    match (n, what) {
        (1, what) => format!("1 {what}"),
        (n, "watch") => format!("{n} watches"),
        (n, what) => format!("{n} {what}s"),
    }
}

/// Which end of a pipe, by its open flags.
fn end(flags: u32) -> &'static str {
    match flags & 3 {
        0 => "read end",
        1 => "write end",
        _ => "both ends",
    }
}

/// A 16-bit number in network byte order.
fn swap(port: u32) -> u16 {
    u16::from_be_bytes([port.to_le_bytes()[0], port.to_le_bytes()[1]])
}

fn inet(socket: &InetSkEntry) -> String {
    let protocol = match socket.proto {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        58 => "icmpv6".into(),
        136 => "udplite".into(),
        other => format!("protocol {other}"),
    };
    let source = address(&socket.src_addr, socket.src_port);
    let state = tcp_state(socket.state);
    if socket.dst_port == 0 {
        format!("{protocol} {source}, {state}")
    } else {
        format!("{protocol} {source} to {}, {state}", address(&socket.dst_addr, socket.dst_port))
    }
}

fn address(words: &[u32], port: u32) -> String {
    let port = u16::try_from(port).unwrap_or(0);
    match *words {
        [v4] => SocketAddr::from((Ipv4Addr::from(v4.to_le_bytes()), port)).to_string(),
        [a, b, c, d] => {
            let mut bytes = [0; 16];
            for (part, word) in bytes.chunks_exact_mut(4).zip([a, b, c, d]) {
                part.copy_from_slice(&word.to_le_bytes());
            }
            SocketAddr::from((Ipv6Addr::from(bytes), port)).to_string()
        }
        _ => format!("?:{port}"),
    }
}

fn unix(socket: &UnixSkEntry) -> String {
    let kind = match socket.kind {
        1 => "stream",
        2 => "datagram",
        5 => "seqpacket",
        _ => "unknown",
    };
    let name = match socket.name.split_first() {
        None => format!("inode {}", socket.ino),
        Some((0, name)) => format!("@{}", text(name)),
        Some(_) => text(socket.name.strip_suffix(b"\0").unwrap_or(&socket.name)),
    };
    let state = tcp_state(socket.state);
    match socket.peer {
        0 => format!("{kind} {name}, {state}"),
        peer => format!("{kind} {name} to inode {peer}, {state}"),
    }
}

/// States of all sockets are numbered as TCP's (net/tcp_states.h).
fn tcp_state(state: u32) -> &'static str {
    const NAMES: [&str; 12] = [
        "established",
        "syn sent",
        "syn received",
        "fin wait 1",
        "fin wait 2",
        "time wait",
        "closed",
        "close wait",
        "last ack",
        "listening",
        "closing",
        "new syn received",
    ];
    usize::try_from(state)
        .ok()
        .and_then(|state| NAMES.get(state.wrapping_sub(1)))
        .copied()
        .unwrap_or("unknown state")
}
