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

/// The image, to be written: what waits, by socket.
#[derive(Default)]
pub(super) struct QueueSink(BTreeMap<FileId, Queue>);

/// What waits for a socket.
struct Queue {
    /// Who is to send it, if that one is in flight itself and nowhere else.
    sender: Option<FileId>,
    /// First to be read first.
    packets: Vec<Packet>,
}

impl QueueSink {
    /// Adds what waits for a socket, and who is to send it if that one is in flight itself and nowhere else.
    pub(super) fn put(
        &mut self,
        id: FileId,
        sender: Option<FileId>,
        packets: impl IntoIterator<Item = Packet>,
    ) {
        self.0.insert(id, Queue { sender, packets: packets.into_iter().collect() });
    }

    /// The sockets in an order that CRIU can restore: it has whoever is in flight send something only
    /// after it has read where that one is in flight.
    fn ordered(&self) -> Vec<&Queue> {
        let mut senders: BTreeMap<FileId, Vec<&Queue>> = BTreeMap::new();
        let mut order = Vec::with_capacity(self.0.len());
        for queue in self.0.values() {
            match queue.sender {
                Some(sender) => senders.entry(sender).or_default().push(queue),
                None => order.push(queue),
            }
        }
        let mut read = 0;
        while let Some(queue) = order.get(read) {
            let scm = queue.packets.iter().flat_map(|(entry, _)| &entry.scm);
            let rights: Vec<_> = scm.flat_map(|scm| &scm.rights).copied().collect();
            for file in rights {
                order.extend(senders.remove(&FileId::from_raw(file)).unwrap_or_default());
            }
            read += 1;
        }
        // Those it cannot: everybody waits for another.
        order.extend(senders.into_values().flatten());
        order
    }
}

impl SinkPart for QueueSink {
    fn finish(self: Box<Self>, dump: &NewPart) -> Result<()> {
        let mut packets = self.ordered().into_iter().flat_map(|queue| &queue.packets).peekable();
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

#[cfg(test)]
mod tests {
    use dormouse_image::proto::files::socket::ScmEntry;

    use super::*;

    #[test]
    fn senders_in_flight_come_after_what_they_come_with() {
        let mut sink = QueueSink::default();
        let mut put = |id, sender: Option<u32>, rights: &[u32]| {
            let scm = vec![ScmEntry { kind: 1, rights: rights.to_vec() }];
            let entry = SkPacketEntry { id_for: id, scm, ..SkPacketEntry::default() };
            sink.put(FileId::from_raw(id), sender.map(FileId::from_raw), [(entry, Vec::new())]);
        };
        put(1, Some(4), &[]);
        put(2, Some(3), &[4, 5]);
        put(6, None, &[3, 7]);
        // They wait for each other.
        put(8, Some(9), &[9]);
        let order = sink.ordered().into_iter().map(|queue| queue.packets[0].0.id_for);
        assert_eq!(order.collect::<Vec<_>>(), [6, 2, 1, 8]);
    }
}
