//! One socket, as a kind of file.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use dormouse_image::proto::files::unix::UnixSkEntry;
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_image::store::NewPart;
use dormouse_image::{ImageDir, ImageName};

use super::connection::{Connection, EXTERN, Outside};
use super::queue::Packet;
use super::set::Set;
use super::spec::{CLOSE, Spec};
use super::survey::UnixSurvey;
use crate::Result;
use crate::corrupt::corrupt;
use crate::file::sink::SinkPart;
use crate::file::sk_queues::{self, QueueSink, QueueSource};
use crate::file::source::SourcePart;
use crate::file::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, ImageSink, ImageSource,
    Inode, Probe, SocketFamily, Stage, Status, Use,
};

/// A unix socket.
#[derive(Debug)]
pub struct Unix {
    status: Status,
    spec: Rc<Spec>,
    /// At the dump, its peer, if that is in flight and nowhere else.
    peer_in_flight: Option<FileId>,
    /// At the restore, all of them.
    set: Option<Rc<Set>>,
}

/// Sockets outside that have an entry already, by inode.
#[derive(Default)]
struct Sink(BTreeSet<u32>);

impl SinkPart for Sink {
    fn finish(self: Box<Self>, _: &NewPart) -> Result<()> {
        Ok(())
    }
}

/// All sockets that were decoded.
struct Source {
    set: Rc<Set>,
    sockets: RefCell<BTreeMap<FileId, Rc<Spec>>>,
    /// By inode.
    outside: BTreeMap<u32, Outside>,
}

impl SourcePart for Source {
    fn open(_: &ImageDir) -> Result<Self> {
        let (set, sockets) = (Rc::default(), RefCell::default());
        Ok(Self { set, sockets, outside: BTreeMap::new() })
    }

    fn end(self) -> Result<()> {
        self.set
            .complete(self.sockets.take(), &self.outside)
            .map_err(|(id, reason)| corrupt(ImageName::Files, Unix::NAME, id.as_raw(), reason))
    }
}

impl FileKind for Unix {
    const NAME: &'static str = "unix socket";
    const TYPE: FdType = FdType::UnixSk;
    const RANKS: &'static [FillRank] = &[FillRank::Contents, FillRank::Arm];

    fn claims(probe: &Probe) -> bool {
        probe.socket_family() == Some(SocketFamily::UNIX)
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let status = Status::collect(cx, probe)?;
        let spec = Rc::new(Spec::collect(cx, probe)?);
        let peer_in_flight = match spec.connection {
            Connection::Peer(inode) => cx.part::<UnixSurvey>().in_flight(inode),
            _ => None,
        };
        Ok(Self { status, spec, peer_in_flight, set: None })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { status, spec, peer_in_flight, set: _ } = self;
        images.part::<QueueSink>().put(id, *peer_in_flight, spec.queue.encode(id));
        if let Connection::Outside(outside) = &spec.connection
            && images.part::<Sink>().0.insert(outside.inode)
        {
            images.put(outside.id, outside.encode());
        }
        let (flags, fown) = status.encode();
        let usk = UnixSkEntry { id: id.as_raw(), flags, fown, ..spec.encode() };
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            usk: Some(Box::new(usk)),
            ..FileEntry::default()
        };
        images.put(id, entry);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, images: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(entry) = entry.usk.as_deref() else {
            return Err(wrong("it has no unix_sk_entry"));
        };
        if entry.id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        let status = Status::decode(Self::NAME, id, entry.flags, &entry.fown)?;
        if entry.uflags == EXTERN && entry.peer == 0 {
            // It only lends its address to those that name its inode.
            images.share(id);
            let outside = Outside::decode(id, entry).map_err(wrong)?;
            images.part::<Source>()?.outside.insert(entry.ino, outside);
            let like = UnixSkEntry { uflags: 0, state: CLOSE, ..entry.clone() };
            let spec = Rc::new(Spec::decode(&like, Vec::new()).map_err(wrong)?);
            return Ok(Self { status, spec, peer_in_flight: None, set: None });
        }
        let packets = images.part::<QueueSource>()?.take(id).into_iter().map(|(entry, bytes)| {
            Packet::decode(&entry, bytes).map_err(|reason| sk_queues::wrong(&entry, reason))
        });
        let packets = packets.collect::<Result<_>>()?;
        let spec = Rc::new(Spec::decode(entry, packets).map_err(wrong)?);
        for file in spec.in_flight() {
            let place = (ImageName::SkQueues, "packet for socket", u64::from(id.as_raw()));
            images.file_ref(file.as_raw(), Use::Description, place);
        }
        let source = images.part::<Source>()?;
        source.sockets.borrow_mut().insert(id, Rc::clone(&spec));
        Ok(Self { status, spec, peer_in_flight: None, set: Some(Rc::clone(&source.set)) })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        Stage::Early
    }

    fn create(&self, id: FileId, _: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let set = self.set.as_ref().expect("a socket that is created was decoded");
        let file = set.take(id)?;
        self.status.apply(Self::NAME, file.as_fd())?;
        Ok(file)
    }

    fn inode(&self) -> Option<&dyn Inode> {
        None
    }

    fn fill(rank: FillRank, files: &[Created<'_, Self>], cx: &FillCx<'_>) -> Result<()> {
        // All of them are in the same one.
        let Some(set) = files.iter().find_map(|file| file.kind.set.as_ref()) else {
            return Ok(());
        };
        if rank == FillRank::Arm {
            set.keep();
            return Ok(());
        }
        let sockets = files.iter().map(|socket| (socket.id, socket.file));
        set.fill(&sockets.collect(), cx)
    }
}
