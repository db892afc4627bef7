//! Epolls.

use std::sync::Arc;

use prost::bytes::{Buf, BufMut};
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};

use crate::proto::files::FownEntry;

/// `eventpoll_file_entry`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EventpollFileEntry {
    /// The file id, as in [`FileEntry::id`](super::FileEntry::id).
    pub id: u32,
    pub flags: u32,
    /// Who gets the signal when I/O is possible.
    pub fown: FownEntry,
    pub tfd: Items,
    /// Dormouse: the state the items are in; absent: as just added.
    pub state: Option<EventpollStateEntry>,
}

/// The numbers of the fields.
mod tag {
    pub(super) const ID: u32 = 1;
    pub(super) const FLAGS: u32 = 2;
    pub(super) const FOWN: u32 = 3;
    pub(super) const TFD: u32 = 4;
    pub(super) const STATE: u32 = 20000;
}

impl Message for EventpollFileEntry {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        let Self { id, flags, fown, tfd, state } = self;
        encoding::uint32::encode(tag::ID, id, buf);
        encoding::uint32::encode(tag::FLAGS, flags, buf);
        encoding::message::encode(tag::FOWN, fown, buf);
        buf.put_slice(&tfd.bytes);
        if let Some(state) = state {
            encoding::message::encode(tag::STATE, state, buf);
        }
    }

    fn encoded_len(&self) -> usize {
        let Self { id, flags, fown, tfd, state } = self;
        let state = state.as_ref();
        encoding::uint32::encoded_len(tag::ID, id)
            + encoding::uint32::encoded_len(tag::FLAGS, flags)
            + encoding::message::encoded_len(tag::FOWN, fown)
            + tfd.bytes.len()
            + state.map_or(0, |state| encoding::message::encoded_len(tag::STATE, state))
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        let Self { id, flags, fown, tfd, state } = self;
        match tag {
            tag::ID => encoding::uint32::merge(wire_type, id, buf, ctx),
            tag::FLAGS => encoding::uint32::merge(wire_type, flags, buf, ctx),
            tag::FOWN => encoding::message::merge(wire_type, fown, buf, ctx),
            tag::TFD => {
                let mut item = EventpollTfdEntry::default();
                encoding::message::merge(wire_type, &mut item, buf, ctx)?;
                tfd.push(&item);
                Ok(())
            }
            tag::STATE => {
                encoding::message::merge(wire_type, state.get_or_insert_default(), buf, ctx)
            }
            _ => encoding::skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Watched files, kept as they are encoded: there can be a million.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Items {
    bytes: Arc<Vec<u8>>,
    count: usize,
}

impl Items {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Are there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn push(&mut self, item: &EventpollTfdEntry) {
        encoding::message::encode(tag::TFD, item, Arc::make_mut(&mut self.bytes));
        self.count += 1;
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = EventpollTfdEntry> {
        const OWN: &str = "what was encoded here can be decoded";
        let mut left = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let more = !left.is_empty();
            more.then(|| {
                let (_, wire_type) = encoding::decode_key(&mut left).expect(OWN);
                let mut item = EventpollTfdEntry::default();
                let context = DecodeContext::default();
                encoding::message::merge(wire_type, &mut item, &mut left, context).expect(OWN);
                item
            })
        })
    }
}

impl FromIterator<EventpollTfdEntry> for Items {
    fn from_iter<I: IntoIterator<Item = EventpollTfdEntry>>(items: I) -> Self {
        let mut all = Self::default();
        items.into_iter().for_each(|item| all.push(&item));
        all
    }
}

/// Dormouse: what an epoll is in the middle of.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EventpollStateEntry {
    /// Indices into [`EventpollFileEntry::tfd`]: the pending items, first to be reported first.
    #[prost(uint32, repeated, packed = "false", tag = "1")]
    pub pending: Vec<u32>,
    #[prost(message, optional, tag = "2")]
    pub busy_poll: Option<BusyPollEntry>,
}

/// Dormouse: see ioctl_eventpoll(2).
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct BusyPollEntry {
    #[prost(uint32, required, tag = "1")]
    pub usecs: u32,
    #[prost(uint32, required, tag = "2")]
    pub budget: u32,
    #[prost(bool, required, tag = "3")]
    pub prefer: bool,
}

/// One watched file (`eventpoll_tfd_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EventpollTfdEntry {
    /// 0; the epoll's file id in images of CRIU before 3.3.
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// Number the item is registered under.
    #[prost(uint32, required, tag = "2")]
    pub tfd: u32,
    /// `EPOLL*`.
    #[prost(uint32, required, tag = "3")]
    pub events: u32,
    /// The user's 64 bits.
    #[prost(uint64, required, tag = "4")]
    pub data: u64,
    /// Device of the target, kernel encoding.
    #[prost(uint32, optional, tag = "5")]
    pub dev: Option<u32>,
    /// Inode of the target.
    #[prost(uint64, optional, tag = "6")]
    pub inode: Option<u64>,
    /// Offset of the target.
    #[prost(uint64, optional, tag = "7")]
    pub pos: Option<u64>,
    /// Dormouse: the process whose signals the target, a signalfd, is watched for; 0: one that has
    /// ended.
    #[prost(uint32, optional, tag = "20003")]
    pub adder: Option<u32>,
    /// Dormouse: file id of the target.
    #[prost(uint32, optional, tag = "20000")]
    pub target: Option<u32>,
    /// Dormouse: the number in the item's key, if `tfd` is another number of the target.
    #[prost(uint32, optional, tag = "20001")]
    pub number: Option<u32>,
    /// Dormouse: how many items of the target, or of all that share its wait queue, were added
    /// before this one and are still there.
    #[prost(uint32, optional, tag = "20002")]
    pub seniority: Option<u32>,
    /// Dormouse: a number that items on different targets have which share a wait queue.
    #[prost(uint32, optional, tag = "20004")]
    pub queue: Option<u32>,
}
