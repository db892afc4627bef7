//! Fifos.
//!
//! Kernel object: an open file description on a pipe that has a name, and
//! lives as long as somebody has it open.
//! Truth from: as for pipes and for files by their path; `poll(2)` tells
//! whether a reader has seen a writer leave.
//! Image: `fifo_entry`, and one `reg_file_entry` for the path each, in
//! `files.img`; `fifo-data.img`. CRIU takes all readers without a writer for
//! hung up; those that are not have a field of our own.
//! Create: all descriptions of a fifo with the first of them, as the order
//! counts: an end that is open at the time keeps an open from waiting, and
//! makes readers hang up when it is closed.
//! Fill: nothing; what is in it is written when it is created. If something is
//! in it, it was kept by somebody outside of the tree, and stays as it is.
//! Not preserved: an end that is held outside of the tree; `O_NOFOLLOW` of a
//! fifo that has lost its name.
//! Scenarios: `crates/resources/tests`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use dormouse_image::proto::files::pipe::FifoEntry;
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_image::store::NewPart;
use dormouse_image::{ImageDir, ImageName};
use dormouse_kernel::DeviceId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags};
use rustix::io::ioctl_fionread;

use super::create::{Milestone, Stash};
use super::inherit::key_of_path;
use super::location::Location;
use super::pipe_contents::{PipeContents, Tools, decode_all, encode_all};
use super::sink::SinkPart;
use super::source::SourcePart;
use super::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, FsMagic, ImageSink,
    ImageSource, Inode, InodeId, Probe, Stage, Status,
};
use crate::corrupt::corrupt;
use crate::{Error, Result};

/// An end of a fifo, or both.
#[derive(Debug)]
pub struct Fifo {
    end: Rc<End>,
    inode: Rc<FifoInode>,
}

/// One open file description.
#[derive(Debug)]
struct End {
    location: Location,
    /// The entry of its path in `files.img`.
    path: FileId,
    status: Status,
    /// Whether it will hang up once there is no writer: one that was opened
    /// when there was none does not, before one has come and gone.
    hangs_up: bool,
}

/// What all its ends have in common.
#[derive(Debug)]
struct FifoInode {
    id: InodeId,
    contents: PipeContents,
    /// At the restore, all its ends.
    ends: RefCell<Vec<(FileId, Rc<End>)>>,
}

impl FifoInode {
    fn new(id: InodeId, contents: PipeContents) -> Rc<Self> {
        Rc::new(Self { id, contents, ends: RefCell::default() })
    }
}

fn access(flags: OFlags) -> OFlags {
    flags & OFlags::ACCMODE
}

/// The fifos of a dump.
#[derive(Default)]
struct Collected {
    inodes: BTreeMap<Key, Rc<FifoInode>>,
    /// By fifo, one end to read by, and whether some end can be written to;
    /// known once the first fifo is collected.
    ends: Option<BTreeMap<Key, (Option<FileId>, bool)>>,
    tools: Tools,
}

/// Device and inode.
type Key = (u64, u64);

fn key(probe: &Probe) -> Key {
    (probe.stat.st_dev, probe.stat.st_ino)
}

impl Collected {
    /// The inode that `probe` is an end of, and whether it has a writer in
    /// the tree.
    fn inode(&mut self, cx: &CollectCx<'_>, probe: &Probe) -> Result<(Rc<FifoInode>, bool)> {
        let key = key(probe);
        let ends = self.ends.get_or_insert_with(|| ends(cx));
        let (reader, written) = ends.get(&key).copied().unwrap_or_default();
        if let Some(inode) = self.inodes.get(&key) {
            return Ok((Rc::clone(inode), written));
        }
        let contents = match reader.and_then(|reader| cx.probes.get(&reader)) {
            Some(reader) => PipeContents::collect(reader.duplicate()?.as_fd(), &mut self.tools)?,
            None => unreadable(probe)?,
        };
        let inode = FifoInode::new(InodeId::from_raw(cx.fresh_inode()), contents);
        self.inodes.insert(key, Rc::clone(&inode));
        Ok((inode, written))
    }
}

fn ends(cx: &CollectCx<'_>) -> BTreeMap<Key, (Option<FileId>, bool)> {
    let mut ends = BTreeMap::<_, (Option<FileId>, bool)>::new();
    for (&id, probe) in cx.probes.iter().filter(|(_, probe)| Fifo::claims(probe)) {
        let (reader, written) = ends.entry(key(probe)).or_default();
        *written |= access(probe.flags()) != OFlags::RDONLY;
        if access(probe.flags()) != OFlags::WRONLY {
            reader.get_or_insert(id);
        }
    }
    ends
}

/// The contents of a fifo that the tree can only write to.
fn unreadable(probe: &Probe) -> Result<PipeContents> {
    let file = probe.duplicate()?;
    let held = ioctl_fionread(&file).map_err(Error::kernel("FIONREAD", &probe.link))?;
    // A writer with no reader anywhere is in error.
    if held > 0 && conditions(file.as_fd())?.contains(PollFlags::ERR) {
        return Err(Error::Unsupported {
            object: "a fifo",
            detail: probe.link.clone().into(),
            reason: "something is in it, and nobody has it open for reading",
            hint: "let some process of the tree open it for reading",
        });
    }
    PipeContents::empty(file.as_fd())
}

fn conditions(file: BorrowedFd<'_>) -> Result<PollFlags> {
    let mut fds = [PollFd::from_borrowed_fd(file, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&at_once)).map_err(Error::kernel("poll", Fifo::NAME))?;
    Ok(fds[0].revents())
}

/// `fifo-data.img`, to be written.
#[derive(Default)]
struct Sink(BTreeMap<InodeId, Rc<FifoInode>>);

impl SinkPart for Sink {
    fn finish(self: Box<Self>, dump: &NewPart) -> Result<()> {
        let all = self.0.iter().map(|(&id, inode)| (id, &inode.contents));
        encode_all(ImageName::FifoData, all, dump)
    }
}

/// `fifo-data.img`, read.
struct Source {
    contents: BTreeMap<InodeId, PipeContents>,
    inodes: BTreeMap<InodeId, Rc<FifoInode>>,
}

impl SourcePart for Source {
    fn open(dir: &ImageDir) -> Result<Self> {
        let contents = decode_all(ImageName::FifoData, dir)?;
        Ok(Self { contents, inodes: BTreeMap::new() })
    }

    fn end(self) -> Result<()> {
        match self.contents.first_key_value() {
            None => Ok(()),
            Some((id, _)) => {
                let reason = "no file is an end of this fifo";
                Err(corrupt(ImageName::FifoData, Fifo::NAME, id.as_raw(), reason))
            }
        }
    }
}

impl Source {
    fn inode(&mut self, id: InodeId, file: FileId, end: &Rc<End>) -> Rc<FifoInode> {
        let inode = self
            .inodes
            .entry(id)
            .or_insert_with(|| FifoInode::new(id, self.contents.remove(&id).unwrap_or_default()));
        inode.ends.borrow_mut().push((file, Rc::clone(end)));
        Rc::clone(inode)
    }
}

/// Ends that were opened, and are to be handed out.
#[derive(Default)]
struct Ready(BTreeMap<InodeId, BTreeMap<FileId, OwnedFd>>);

impl Stash for Ready {
    fn reached(&mut self, _: Milestone) -> Result<()> {
        self.0.clear();
        Ok(())
    }
}

impl FifoInode {
    /// Opens all ends that are needed as open file descriptions.
    fn open(&self, cx: &mut CreateCx<'_>) -> Result<BTreeMap<FileId, OwnedFd>> {
        let ends = self.ends.borrow();
        let needed: Vec<_> = ends.iter().filter(|(id, _)| cx.files().is_described(*id)).collect();
        let (_, first) = needed.first().expect("the one that is created");
        let holder = first.open(OFlags::RDWR, cx)?;
        let held = ioctl_fionread(&holder).map_err(Error::kernel("FIONREAD", Fifo::NAME))?;
        if held == 0 {
            self.contents.fill(holder.as_fd())?;
        }
        let mut ready = BTreeMap::new();
        // Those that hang up have seen the holder.
        for (id, end) in needed.iter().filter(|(_, end)| end.hangs_up) {
            ready.insert(*id, end.open(end.status.open_flags(), cx)?);
        }
        let rest: Vec<_> = needed.iter().filter(|(_, end)| !end.hangs_up).collect();
        // What is in it must not go with the holder.
        let keeper = match rest.first() {
            Some((_, end)) if ready.is_empty() => Some(end.open(OFlags::RDONLY, cx)?),
            _ => None,
        };
        drop(holder);
        for (id, end) in rest {
            ready.insert(*id, end.open(end.status.open_flags(), cx)?);
        }
        drop(keeper);
        Ok(ready)
    }
}

impl End {
    fn open(&self, flags: OFlags, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
        self.location.open(self.path, flags, cx)
    }
}

impl Fifo {
    /// See [`File::former_inode`](super::File).
    pub(super) fn former_inode(&self) -> Option<(DeviceId, u64)> {
        self.end.location.former_inode()
    }

    /// See [`File::inherit_key`](super::File::inherit_key).
    pub(super) fn inherit_key(&self) -> Option<String> {
        key_of_path(self.end.location.name())
    }
}

impl FileKind for Fifo {
    const NAME: &'static str = "fifo";
    const TYPE: FdType = FdType::Fifo;
    const RANKS: &'static [FillRank] = &[];

    fn claims(probe: &Probe) -> bool {
        probe.file_type() == FileType::Fifo
            && probe.file_system != FsMagic::PIPE
            && probe.mounted
            && !probe.is_path_only()
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let location = Location::collect(cx, probe)?;
        let status = Status::collect(cx, probe)?;
        let (inode, written) = cx.part::<Collected>().inode(cx, probe)?;
        // With a writer in the tree all ends were opened before that, or have
        // met it.
        let hangs_up = written || conditions(probe.duplicate()?.as_fd())?.contains(PollFlags::HUP);
        let end = Rc::new(End { location, path: cx.fresh_id(), status, hangs_up });
        Ok(Self { end, inode })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { end, inode } = self;
        let End { location, path, status, hangs_up } = &**end;
        images.part::<Sink>().0.entry(inode.id).or_insert_with(|| Rc::clone(inode));
        location.encode(*path, status, 0, images)?;
        let fifo = FifoEntry {
            id: id.as_raw(),
            pipe_id: inode.id.as_raw(),
            regf_id: Some(path.as_raw()),
            no_hang_up: (!hangs_up).then_some(true),
        };
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            fifo: Some(Box::new(fifo)),
            ..FileEntry::default()
        };
        images.put(id, entry);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, images: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(fifo) = entry.fifo.as_deref() else {
            return Err(wrong("it has no fifo_entry"));
        };
        let FifoEntry { id: own_id, pipe_id, regf_id, no_hang_up } = *fifo;
        if own_id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        let path = FileId::from_raw(regf_id.ok_or_else(|| wrong("it has no path"))?);
        let reg = images.share(path).ok_or_else(|| wrong("the entry of its path is not there"))?;
        let (location, status, _) = Location::decode(path, &reg, images)?;
        if status.is_path_only() {
            return Err(wrong("it was opened with O_PATH, and so is no fifo"));
        }
        let hangs_up = !no_hang_up.unwrap_or(false) || access(status.flags()) != OFlags::RDONLY;
        let end = Rc::new(End { location, path, status, hangs_up });
        let inode = images.part::<Source>()?.inode(InodeId::from_raw(pipe_id), id, &end);
        Ok(Self { end, inode })
    }

    fn status(&self) -> &Status {
        &self.end.status
    }

    fn stage(&self) -> Stage {
        Stage::Early
    }

    fn create(&self, id: FileId, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let Self { end, inode } = self;
        let known = cx.stash::<Ready>().0.contains_key(&inode.id);
        if !known {
            let ready = inode.open(cx)?;
            cx.stash::<Ready>().0.insert(inode.id, ready);
        }
        let ready = cx.stash::<Ready>().0.get_mut(&inode.id);
        let file = ready
            .and_then(|ready| ready.remove(&id))
            .expect("all ends were opened, and each is created once");
        end.status.apply(Self::NAME, file.as_fd())?;
        Ok(file)
    }

    fn inode(&self) -> Option<&dyn Inode> {
        None
    }

    fn fill(_: FillRank, _: &[Created<'_, Self>], _: &FillCx<'_>) -> Result<()> {
        Ok(())
    }
}
