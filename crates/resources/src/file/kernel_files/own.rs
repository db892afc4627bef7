//! Files of this process, which are read both ways before anything is believed.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use dormouse_kernel::file_owner::{self, Owner, OwnerKind};
use dormouse_kernel::proc::{FdInfo, ProcDir};
use dormouse_kernel::{FdNum, HostPid};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fs::{FlockOperation, MemfdFlags, SeekFrom, Stat, flock, memfd_create, seek};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::pipe::{PipeFlags, pipe_with};

use super::found::{More, Nameless};
use super::{KernelFile, KernelFiles, KernelTable};
use crate::file::Sighting;

/// Files of this process, to try it with.
pub(super) struct Own {
    pub(super) socket: OwnedFd,
    pub(super) pipe: OwnedFd,
    /// Left open by `execve(2)`, at an offset, and with somebody to signal.
    file: OwnedFd,
    locked: OwnedFd,
    pub(super) counter: OwnedFd,
    semaphore: OwnedFd,
    /// One more without an inode of its own, of another name.
    epoll: OwnedFd,
}

impl Own {
    pub(super) fn new() -> rustix::io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let (pipe, _) = pipe_with(PipeFlags::CLOEXEC)?;
        // Nothing runs another program here meanwhile.
        let file = memfd_create("file", MemfdFlags::empty())?;
        seek(&file, SeekFrom::Start(4321))?;
        let owner = Owner { kind: OwnerKind::Process, pid: HostPid::of_self() };
        file_owner::set_owner(file.as_fd(), owner)?;
        let locked = memfd_create("locked", MemfdFlags::CLOEXEC)?;
        flock(&locked, FlockOperation::LockShared)?;
        let counter = eventfd(u32::MAX, EventfdFlags::CLOEXEC)?;
        rustix::io::write(&counter, &1234_u64.to_ne_bytes())?;
        let semaphore = eventfd(4321, EventfdFlags::CLOEXEC | EventfdFlags::SEMAPHORE)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { socket, pipe, file, locked, counter, semaphore, epoll })
    }

    /// Whether memory and `/proc` tell the same of them.
    pub(super) fn agrees(&self, files: &mut KernelFiles, table: &KernelTable) -> bool {
        let Self { socket, pipe, file, locked, counter, semaphore, epoll } = self;
        let all = [socket, pipe, file, locked, counter, semaphore, epoll];
        let found = all.map(|file| {
            let fd = FdNum::from_raw(file.as_raw_fd().cast_unsigned());
            let (seen, proc) = (files.files(table, &[fd]).ok()?, ProcDir::of_self().ok()?);
            let &[seen] = &seen[..] else { return None };
            let told = Sighting::of_fd(&proc, fd).ok()?;
            let read = seen.sighting(files, &proc, fd).ok()?;
            let identity = |stat: &Stat| (stat.st_dev, stat.st_ino, stat.st_mode);
            let owner = |stat: &Stat| (stat.st_uid, stat.st_gid);
            let link_by_name = seen.name.map_or_else(|| told.link.clone(), |name| name.link());
            let extra = match seen.more {
                More::Eventfd(counter) => counter.extra(),
                More::Nothing | More::Unknown => told.info.extra.clone(),
            };
            let same = told.link == read.link
                && told.link == link_by_name
                && identity(&told.stat) == identity(&read.stat)
                && owner(&told.stat) == owner(&read.stat)
                && told.info == FdInfo { extra, ..read.info };
            same.then_some(seen)
        });
        let [Some(socket), Some(pipe), Some(file), Some(locked), anonymous @ ..] = found else {
            return false;
        };
        let [Some(counter), Some(semaphore), Some(epoll)] = anonymous else { return false };
        let named = [socket, pipe, file, locked];
        let is_eventfd = |file: KernelFile| matches!(file.more, More::Eventfd(_));
        socket.socket.is_some_and(|socket| socket.family == libc::AF_UNIX)
            && [socket.inode.of, pipe.inode.of] == [Nameless::Socket, Nameless::Pipe]
            && [file, locked, counter, semaphore, epoll]
                .iter()
                .all(|file| file.inode.of == Nameless::No)
            && named.map(|file| file.has_owner) == [false, false, true, false]
            && named.map(|file| file.may_be_locked) == [false, false, false, true]
            && named.iter().all(|file| file.more == More::Nothing && file.name.is_none())
            && [counter, semaphore, epoll].iter().all(|file| file.name.is_some())
            && [counter, semaphore, epoll].map(is_eventfd) == [true, true, false]
    }
}
