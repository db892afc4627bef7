//! What is told of a socket.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use epoll_interest::kernel_memory::{Address, KernelMemory, ReadError};
use rustix::fs::OFlags;

use super::KernelFiles;
use super::found::Nameless;
use super::layout::{Layout, SocketMembers};
use super::reader::{half, word};
use crate::file::likeness::{Alike, Model};

/// A socket.
#[derive(Clone, Copy)]
pub(crate) struct KernelSocket {
    pub(crate) family: i32,
    /// The `struct sock`.
    pub(crate) sock: Address,
}

impl std::fmt::Debug for KernelSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelSocket").field("family", &self.family).finish_non_exhaustive()
    }
}

/// What a `struct sock` has.
#[derive(Clone, Debug)]
pub(crate) struct InnerSocket {
    /// Which options are those of a new one.
    pub(crate) alike: Alike,
    /// Whether it has no error to tell.
    pub(crate) is_sound: bool,
    /// What tells its `SO_PEERCRED` and `SO_PEERGROUPS` from others.
    pub(crate) peer: [Address; 2],
    /// Whether a unix socket has no byte out of band.
    pub(crate) is_in_band: bool,
}

/// Where a socket is found by its descriptor.
pub(super) fn socks(
    memory: &mut KernelMemory,
    layout: &Layout,
    files: &[BorrowedFd<'_>],
) -> Result<Vec<Address>, ReadError> {
    let sockets = layout.files.private_data(memory, files)?;
    memory.words_behind(&sockets, layout.socket.sock)
}

impl KernelFiles {
    /// What sockets have, held against `model`, a new one as `make` makes them.
    ///
    /// # Errors
    /// Nothing is where it should be.
    pub(crate) fn sockets(
        &mut self,
        all: &[Address],
        model: &Model,
        make: impl Fn() -> Option<OwnedFd>,
    ) -> Result<Vec<InnerSocket>, ReadError> {
        /// As many as are held at once.
        const SOME: usize = 1024;
        let Self { memory, layout, places, .. } = self;
        let SocketMembers { error, errors, peer, urgent, .. } = layout.socket;
        model.try_options(places, make, |files| {
            let socks = socks(memory, layout, files)?;
            places.read(memory, &socks, false)
        })?;
        let of_model = socks(memory, layout, &[model.socket.as_fd()])?;
        let of_model = places.read(memory, &of_model, false)?.remove(0);
        let mut found = Vec::with_capacity(all.len());
        for socks in all.chunks(SOME) {
            let urgent = match urgent {
                Some(urgent) => memory.words_behind(socks, urgent)?,
                None => vec![1; socks.len()],
            };
            let read = places.read(memory, socks, false)?;
            found.extend(read.iter().zip(urgent).map(|(sock, urgent)| InnerSocket {
                alike: places.compare(sock, &of_model),
                is_sound: half(sock, error) == 0 && half(sock, errors) == 0,
                peer: peer.map(|at| word(sock, at)),
                is_in_band: urgent == 0,
            }));
        }
        Ok(found)
    }

    /// Of those files that are sockets, by their inodes.
    pub(super) fn sockets_of(
        &mut self,
        files: &[&[u8]],
        of: &[Nameless],
    ) -> Result<Vec<KernelSocket>, ReadError> {
        let Layout { file: members, socket: SocketMembers { sock, family, .. }, .. } = self.layout;
        let is_socket = |(_, of): &(&&[u8], &Nameless)| **of == Nameless::Socket;
        // By `O_PATH` it has nothing there.
        let path = |file: &&[u8]| {
            OFlags::from_bits_retain(half(file, members.flags)).contains(OFlags::PATH)
        };
        let all: Vec<_> = files.iter().zip(of).filter(is_socket).map(|(file, _)| *file).collect();
        let open: Vec<_> = all.iter().filter(|file| !path(file)).copied().collect();
        let at: Vec<_> = open.iter().map(|file| word(file, members.private)).collect();
        let socks = self.memory.words_behind(&at, sock)?;
        // Some kinds have no `struct sock` any more.
        let there: Vec<_> = socks.iter().copied().filter(|&sock| sock != 0).collect();
        let mut families = self.memory.words_behind(&there, family)?.into_iter();
        let mut open = socks.into_iter().map(|sock| {
            let family = if sock == 0 { 0 } else { families.next().unwrap_or(0) as u16 };
            KernelSocket { family: family.into(), sock }
        });
        let none = KernelSocket { family: 0, sock: 0 };
        let of_file = |file: &&[u8]| if path(file) { Some(none) } else { open.next() };
        Ok(all.iter().filter_map(of_file).collect())
    }
}
