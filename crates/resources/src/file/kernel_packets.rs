//! What is in packets that no call reads, as the kernel's own memory has it.
//!
//! Kernel object: `struct sk_buff`.
//! Truth from: `skb_shared_info` and `skb_frag_t` (`include/linux/skbuff.h`), by the kernel's type
//! information. Nothing but reading.

use epoll_interest::kernel_memory::{
    Address, Btf, BtfError, DirectMap, FindError, KernelMemory, OpenError, ReadError,
    TypeInformation,
};

/// Offsets in bytes.
#[derive(Clone, Copy)]
struct Layout {
    /// `struct sk_buff`, and its members.
    packet: usize,
    len: usize,
    len_elsewhere: usize,
    data: usize,
    head: usize,
    end: usize,
    /// `struct skb_shared_info`: how many pieces, the first, and packets behind.
    pieces: usize,
    first_piece: usize,
    list: usize,
}

impl Layout {
    fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let packet = btf.structure("sk_buff")?;
        let shared = btf.structure("skb_shared_info")?;
        Ok(Self {
            packet: packet.size(),
            len: packet.offset("len")?,
            len_elsewhere: packet.offset("data_len")?,
            data: packet.offset("data")?,
            head: packet.offset("head")?,
            end: packet.offset("end")?,
            pieces: shared.offset("nr_frags")?,
            first_piece: shared.offset("frags")?,
            list: shared.offset("frag_list")?,
        })
    }
}

/// Why a packet was not read.
#[derive(Debug)]
pub(super) enum Unread {
    Read(ReadError),
    /// It is in the memory of a device.
    Device,
    /// It is where this kernel's memory cannot be read.
    Nowhere,
}

impl From<ReadError> for Unread {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// What reads them.
pub(super) struct KernelPackets {
    types: TypeInformation,
    layout: Layout,
    /// Looked for when it is needed.
    pages: Option<DirectMap>,
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(std::array::from_fn(|byte| bytes[at + byte]))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(std::array::from_fn(|byte| bytes[at + byte]))
}

impl KernelPackets {
    /// Has `layout` find where other things are.
    ///
    /// # Errors
    /// The type information is not there, or is of another form.
    pub(super) fn open<L>(
        layout: impl FnOnce(&Btf<'_>) -> Result<L, BtfError>,
    ) -> Result<(Self, L), OpenError> {
        let types = TypeInformation::open().map_err(OpenError::TypeInformation)?;
        let btf = types.parse()?;
        let (own, other) = (Layout::new(&btf)?, layout(&btf)?);
        drop(btf);
        Ok((Self { types, layout: own, pages: None }, other))
    }

    /// What is in a packet.
    pub(super) fn contents(
        &mut self,
        memory: &mut KernelMemory,
        packet: Address,
    ) -> Result<Vec<u8>, Unread> {
        self.read(memory, packet, true)
    }

    /// What is in it, and in those behind it if it is the first.
    fn read(
        &mut self,
        memory: &mut KernelMemory,
        packet: Address,
        is_first: bool,
    ) -> Result<Vec<u8>, Unread> {
        let at = self.layout;
        let header = memory.bytes(packet, at.packet)?;
        let elsewhere = half(&header, at.len_elsewhere) as usize;
        let len = half(&header, at.len) as usize;
        let near = len.checked_sub(elsewhere).ok_or(ReadError::Fault)?;
        let shared = word(&header, at.head) + u64::from(half(&header, at.end));
        let mut bytes = memory.bytes(word(&header, at.data), near)?;
        if elsewhere == 0 {
            return Ok(bytes);
        }
        // MAX_SKB_FRAGS is at most 45.
        const PIECES: u8 = 45;
        // skb_frag_t: the page, then length and offset.
        const PIECE: usize = 16;
        let pieces = memory.word(shared + at.pieces as u64)? as u8;
        if pieces > PIECES {
            return Err(ReadError::Fault.into());
        }
        let pieces = memory.bytes(shared + at.first_piece as u64, usize::from(pieces) * PIECE)?;
        for piece in pieces.chunks_exact(PIECE) {
            let (page, len, offset) = (word(piece, 0), half(piece, 8), half(piece, 12));
            if page & 1 != 0 {
                return Err(Unread::Device);
            }
            let pages = self.pages(memory)?.ok_or(Unread::Nowhere)?;
            bytes.extend(memory.bytes(pages.contents(page) + u64::from(offset), len as usize)?);
        }
        let mut next = if is_first { memory.word(shared + at.list as u64)? } else { 0 };
        while next != 0 && bytes.len() < len {
            bytes.extend(self.read(memory, next, false)?);
            next = memory.word(next)?;
        }
        if bytes.len() == len { Ok(bytes) } else { Err(ReadError::Fault.into()) }
    }

    fn pages(&mut self, memory: &mut KernelMemory) -> Result<Option<DirectMap>, ReadError> {
        if self.pages.is_none() {
            let found = self.types.parse().map_err(FindError::from);
            self.pages = match found.and_then(|btf| DirectMap::find(&btf, memory)) {
                Ok(found) => found,
                Err(FindError::Read(error)) => return Err(error),
                Err(_) => None,
            };
        }
        Ok(self.pages)
    }
}
