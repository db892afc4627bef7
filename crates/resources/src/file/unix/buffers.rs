//! How a stream is divided into buffers.
//!
//! Kernel object: `struct sk_buff` of what was written at once. Each takes memory of its own until
//! all of it is read, so that decides when the other end can be written to again.
//! Truth from: `sk_receive_queue`, `UNIXCB(skb).consumed`, by the kernel's type information; the memory
//! that the other end is charged with, as far as that tells enough.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use dormouse_kernel::socket::{Outgoing, SocketOption};
use epoll_interest::kernel_memory::{Address, Btf, BtfError, KernelMemory, OpenFiles, ReadError};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::creation::widen;
use crate::steady::steady;
use crate::{Error, Result};

/// What was written at once, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Buffer {
    pub(super) unread: u32,
    pub(super) read: u32,
}

/// More buffers than any queue holds.
const MOST: usize = 1 << 22;

/// Offsets in bytes.
#[derive(Clone, Copy)]
struct Layout {
    files: OpenFiles,
    sock: usize,
    queue: usize,
    len: usize,
    read: usize,
}

impl Layout {
    fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let packet = btf.structure("sk_buff")?;
        Ok(Self {
            files: OpenFiles::new(btf)?,
            sock: btf.structure("socket")?.offset("sk")?,
            queue: btf.structure("sock")?.offset("sk_receive_queue")?,
            len: packet.offset("len")?,
            read: packet.offset("cb")? + btf.structure("unix_skb_parms")?.offset("consumed")?,
        })
    }
}

/// Tells how streams are divided.
#[derive(Default)]
pub(super) struct Buffers {
    /// What reads the kernel's memory, or that this cannot be done, once that was tried.
    inside: Option<Option<(KernelMemory, Layout)>>,
    /// What one buffer takes, by its bytes.
    sizes: BTreeMap<usize, u32>,
}

impl std::fmt::Debug for Buffers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffers").finish_non_exhaustive()
    }
}

impl Buffers {
    /// Whether so many bytes are in one buffer, if whoever has written them is charged with so much.
    pub(super) fn is_one(&mut self, bytes: usize, charged: u32) -> Result<bool> {
        /// As much fits into one, and takes less there than in several.
        const MOST: usize = 32 << 10;
        if bytes > MOST {
            return Ok(false);
        }
        let size = match self.sizes.get(&bytes) {
            Some(&size) => size,
            None => *self.sizes.entry(bytes).or_insert(size_of_one(bytes)?),
        };
        Ok(size == charged)
    }

    /// The buffers that wait in a stream, the first to be read first; there are none if the kernel's
    /// memory cannot be read, or does not stand still.
    pub(super) fn of(&mut self, stream: BorrowedFd<'_>) -> Vec<Buffer> {
        let inside = self.inside.get_or_insert_with(|| KernelMemory::open(Layout::new).ok());
        let Some((memory, layout)) = inside else { return Vec::new() };
        let read = steady(|| {
            let socket = layout.files.private_data(memory, &[stream])?[0];
            let sock = memory.word(socket + layout.sock as u64)?;
            layout.waiting(memory, sock)
        });
        read.ok().flatten().unwrap_or_default()
    }
}

impl Layout {
    fn waiting(self, memory: &mut KernelMemory, sock: Address) -> Result<Vec<Buffer>, ReadError> {
        let all = memory.links(sock + self.queue as u64, MOST)?;
        let lens = memory.words_behind(&all, self.len)?;
        let read = memory.words_behind(&all, self.read)?;
        let buffers = lens.into_iter().zip(read).map(|(len, read)| {
            let (len, read) = (len as u32, read as u32);
            let unread = len.checked_sub(read).ok_or(ReadError::Fault)?;
            Ok(Buffer { unread, read })
        });
        buffers.collect()
    }
}

/// The memory that one buffer takes.
fn size_of_one(bytes: usize) -> Result<u32> {
    // SK_MEMINFO_WMEM_ALLOC, include/uapi/linux/sock_diag.h.
    const ALLOCATED: usize = 2;
    let failed = |call| Error::kernel(call, "a unix socket");
    let (one, _other) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(failed("socketpair"))?;
    widen(one.as_fd())?;
    let outgoing = Outgoing { bytes: &vec![0; bytes], ..Outgoing::default() };
    outgoing.send(&one).map_err(failed("sendmsg"))?;
    let mut info = [0; 36];
    let option = SocketOption::of_socket(libc::SO_MEMINFO);
    option.get_into(&one, &mut info).map_err(failed("SO_MEMINFO"))?;
    Ok(u32::from_ne_bytes([0, 1, 2, 3].map(|byte| info[4 * ALLOCATED + byte])))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::{Buffer, Buffers};

    #[test]
    fn what_was_written_at_once_is_told_apart() {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let mut buffers = Buffers::default();
        assert_eq!(buffers.of(other.as_fd()), []);
        for len in [5, 700, 1] {
            one.write_all(&vec![b'a'; len]).unwrap();
        }
        other.read_exact(&mut [0; 3]).unwrap();
        let expected = [(2, 3), (700, 0), (1, 0)];
        let expected = expected.map(|(unread, read)| Buffer { unread, read });
        assert_eq!(buffers.of(other.as_fd()), expected);
    }

    #[test]
    fn many_are_told_apart() {
        let (mut one, other) = UnixStream::pair().unwrap();
        for _ in 0..200 {
            one.write_all(b"a").unwrap();
        }
        let expected = [Buffer { unread: 1, read: 0 }; 200];
        assert_eq!(Buffers::default().of(other.as_fd()), expected);
    }
}
