//! What waits in queues of sockets, of whatever family: `sk-queues.img`.

use std::collections::BTreeMap;

use dormouse_image::proto::files::socket::SkPacketEntry;
use dormouse_image::store::NewPart;
use dormouse_image::{ImageDir, ImageName};

use super::FileId;
use super::sink::SinkPart;
use super::source::SourcePart;
use crate::Result;
use crate::corrupt::corrupt;

/// A packet and its bytes.
type Packet = (SkPacketEntry, Vec<u8>);

/// The image, to be written: packets by socket, first to be read first.
#[derive(Default)]
pub(super) struct QueueSink(BTreeMap<FileId, Vec<Packet>>);

impl QueueSink {
    /// Adds what waits for a socket.
    pub(super) fn put(&mut self, id: FileId, packets: impl IntoIterator<Item = Packet>) {
        self.0.entry(id).or_default().extend(packets);
    }
}

impl SinkPart for QueueSink {
    fn finish(self: Box<Self>, dump: &NewPart) -> Result<()> {
        let mut packets = self.0.values().flatten().peekable();
        if packets.peek().is_none() {
            return Ok(());
        }
        let mut writer = dump.writer(ImageName::SkQueues)?;
        for (entry, bytes) in packets {
            writer.put(entry)?;
            writer.put_payload(bytes)?;
        }
        Ok(writer.finish()?)
    }
}

/// The image, read.
pub(super) struct QueueSource(BTreeMap<FileId, Vec<Packet>>);

impl QueueSource {
    /// What waits for a socket.
    pub(super) fn take(&mut self, id: FileId) -> Vec<Packet> {
        self.0.remove(&id).unwrap_or_default()
    }
}

impl SourcePart for QueueSource {
    fn open(dir: &ImageDir) -> Result<Self> {
        let mut queues: BTreeMap<FileId, Vec<Packet>> = BTreeMap::new();
        if let Some(mut reader) = dir.reader(ImageName::SkQueues)? {
            while let Some(entry) = reader.next_message::<SkPacketEntry>()? {
                let bytes = reader.payload(entry.length.into())?;
                queues.entry(FileId::from_raw(entry.id_for)).or_default().push((entry, bytes));
            }
        }
        Ok(Self(queues))
    }

    fn end(self) -> Result<()> {
        let Some((id, _)) = self.0.first_key_value() else { return Ok(()) };
        let reason = "there is no such socket";
        Err(corrupt(ImageName::SkQueues, "packet for socket", id.as_raw(), reason))
    }
}

/// The error for a packet in the image.
pub(super) fn wrong(entry: &SkPacketEntry, reason: &'static str) -> crate::Error {
    corrupt(ImageName::SkQueues, "packet", entry.id_for, reason)
}
