//! An open file description on a queue.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::rc::Rc;

use dormouse_image::ImageName;
use dormouse_image::proto::files::mqueue::MqueueFileEntry;
use dormouse_image::proto::files::{FdType, FileEntry};
use rustix::fs::{FileType, SeekFrom, seek};

use super::notification::Notification;
use super::queue::{Known, Opening, Queue, Ready, Sink, Source};
use crate::corrupt::corrupt;
use crate::file::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, FsMagic, ImageSink,
    ImageSource, Inode, InodeId, Probe, Stage, Status,
};
use crate::{Error, Result};

/// An open file description on a message queue.
#[derive(Debug)]
pub struct Mqueue {
    status: Status,
    /// How far its status was read, by `read(2)`.
    pos: u64,
    opening: Opening,
    queue: Rc<Queue>,
}

impl Mqueue {
    /// The number of its queue.
    pub(crate) fn queue(&self) -> InodeId {
        self.queue.id()
    }

    /// Who is told of messages.
    pub(crate) fn notification(&self) -> Option<&Notification> {
        self.queue.notification()
    }

    /// Its queue, if the restore has made it, is the tree's, and stays.
    pub(crate) fn publish(&self) -> Result<()> {
        self.queue.publish()
    }
}

impl FileKind for Mqueue {
    const NAME: &'static str = "message queue";
    const TYPE: FdType = FdType::Mqueue;
    const RANKS: &'static [FillRank] = &[];

    fn claims(probe: &Probe) -> bool {
        probe.file_system == FsMagic::MQUEUE && probe.file_type() == FileType::RegularFile
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let status = Status::collect(cx, probe)?;
        let pos = u64::try_from(probe.info.pos).unwrap_or(0);
        let directory = probe.link.parent().filter(|_| probe.mounted).map(ToOwned::to_owned);
        let opening = Opening { flags: status.open_flags(), directory };
        let queue = cx.part::<Known>().queue(cx, probe)?;
        Ok(Self { status, pos, opening, queue })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { status, pos, opening: Opening { flags: _, directory }, queue } = self;
        images.part::<Sink>().0.entry(queue.id()).or_insert_with(|| Rc::clone(queue));
        let (flags, fown) = status.encode();
        let entry = MqueueFileEntry {
            id: id.as_raw(),
            flags,
            fown,
            queue: queue.id().as_raw(),
            pos: Some(*pos).filter(|&pos| pos != 0),
            directory: directory.as_ref().map(|path| path.as_os_str().as_bytes().to_vec()),
        };
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            mqueue: Some(Box::new(entry)),
            ..FileEntry::default()
        };
        images.put(id, entry);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, images: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(entry) = entry.mqueue.as_deref() else {
            return Err(wrong("it has no entry of a message queue"));
        };
        let MqueueFileEntry { id: own_id, flags, fown, queue, pos, directory } = entry;
        if *own_id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        let pos = pos.unwrap_or(0);
        if i64::try_from(pos).is_err() {
            return Err(wrong("its offset is none"));
        }
        let directory = match directory {
            None => None,
            Some(path) if path.starts_with(b"/") && !path.contains(&0) => {
                Some(PathBuf::from(std::ffi::OsString::from_vec(path.clone())))
            }
            Some(_) => return Err(wrong("its directory is none")),
        };
        let status = Status::decode(Self::NAME, id, *flags, fown)?;
        if status.is_path_only() && directory.is_none() {
            return Err(wrong("mq_open(2) opens nothing with O_PATH"));
        }
        let opening = Opening { flags: status.open_flags(), directory };
        let source = images.part::<Source>()?;
        let queue = source.queue(InodeId::from_raw(*queue), (id, opening.clone()));
        let queue = queue.ok_or_else(|| wrong("its queue is not there"))?;
        Ok(Self { status, pos, opening, queue })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        Stage::Early
    }

    fn create(&self, id: FileId, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let Self { status, pos, opening, queue } = self;
        let file = queue.open(id, opening, cx.stash::<Ready>())?;
        status.apply(Self::NAME, file.as_fd())?;
        if *pos != 0 {
            seek(&file, SeekFrom::Start(*pos)).map_err(Error::kernel("lseek", Self::NAME))?;
        }
        Ok(file)
    }

    fn inode(&self) -> Option<&dyn Inode> {
        None
    }

    fn fill(_: FillRank, _: &[Created<'_, Self>], _: &FillCx<'_>) -> Result<()> {
        Ok(())
    }
}
