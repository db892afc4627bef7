//! Pipes.
//!
//! Kernel object: an open file description on an end of a pipe. `pipe(2)`
//! makes one for each end; more, and ones for both ends, come from opening
//! `/proc/PID/fd/N`.
//! Truth from: `/proc/PID/fd` and `fdinfo`; see `pipe_contents`.
//! Image: `pipe_entry` in `files.img`, `pipes-data.img`.
//! Create: `pipe2(2)` when the first end is created. The first descriptions
//! without `O_LARGEFILE` are those it made, all others are opened through
//! `/proc`. An end that nobody has is closed before anybody runs.
//! Fill: what is in it.
//! Not preserved: an end that is held outside of the tree. As with CRIU, the
//! pipe is restored without it: reading ends, writing fails with `EPIPE`. What
//! is in a pipe that can only be read outside stays where it is. What nobody
//! can ever read is as many zeros.
//! Scenarios: `crates/resources/tests`.

use std::cell::Cell;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use dormouse_image::proto::files::pipe::PipeEntry;
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_image::store::NewPart;
use dormouse_image::{ImageDir, ImageName};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, pipe_with};

use super::create::{Milestone, Stash};
use super::pipe_contents::{PipeContents, Tools, decode_all, encode_all};
use super::probe::reopen;
use super::sink::SinkPart;
use super::source::SourcePart;
use super::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, FsMagic, ImageSink,
    ImageSource, Inode, InodeId, Probe, Stage, Status,
};
use crate::corrupt::corrupt;
use crate::{Error, Result};

/// An end of a pipe, or both.
#[derive(Debug)]
pub struct Pipe {
    status: Status,
    inode: Rc<PipeInode>,
}

/// What all its ends have in common.
#[derive(Debug)]
struct PipeInode {
    id: InodeId,
    contents: PipeContents,
    /// How many descriptions are still to be created.
    waiting: Cell<usize>,
}

/// The pipes of a dump, by inode number. (All are on one mount.)
#[derive(Default)]
struct Collected {
    /// Those that can be read, and an end that it can be done by; known once the
    /// first pipe is collected.
    readable: Option<BTreeMap<u64, FileId>>,
    tools: Tools,
    inodes: BTreeMap<u64, Rc<PipeInode>>,
}

impl Collected {
    /// The inode that `probe` is an end of. Its contents are read by the
    /// first end that can.
    fn inode(&mut self, cx: &CollectCx<'_>, probe: &Probe) -> Result<Rc<PipeInode>> {
        let number = probe.stat.st_ino;
        if let Some(inode) = self.inodes.get(&number) {
            return Ok(Rc::clone(inode));
        }
        let readable = self.readable.get_or_insert_with(|| {
            let ends = cx.probes.values().filter(|end| Pipe::claims(end) && reads(end));
            // Of several the first.
            ends.rev().map(|end| (end.stat.st_ino, end.id)).collect()
        });
        let contents = if let Some(id) = readable.get(&number) {
            let file = cx.probes[id].duplicate()?;
            PipeContents::collect(file.as_fd(), &mut self.tools)?
        } else if probe.is_path_only() {
            PipeContents::default()
        } else {
            let file = probe.duplicate()?;
            match has_reader(file.as_fd())? {
                true => PipeContents::empty(file.as_fd())?,
                false => PipeContents::unreadable(file.as_fd())?,
            }
        };
        // The inode numbers of pipes have 32 bits (get_next_ino, fs/inode.c),
        // and --inherit-fd calls pipes by them.
        let id = InodeId::from_raw(number as u32);
        let inode = Rc::new(PipeInode { id, contents, waiting: Cell::new(0) });
        self.inodes.insert(number, Rc::clone(&inode));
        Ok(inode)
    }
}

/// Whether anybody anywhere has a reading end of the pipe behind `writer`: if not, it is in error.
fn has_reader(writer: BorrowedFd<'_>) -> Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(writer, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&at_once)).map_err(Error::kernel("poll", Pipe::NAME))?;
    Ok(!fds[0].revents().contains(PollFlags::ERR))
}

fn reads(probe: &Probe) -> bool {
    !probe.is_path_only() && probe.flags() & OFlags::ACCMODE != OFlags::WRONLY
}

/// `pipes-data.img`, to be written.
#[derive(Default)]
struct Sink(BTreeMap<InodeId, Rc<PipeInode>>);

impl SinkPart for Sink {
    fn finish(self: Box<Self>, dump: &NewPart) -> Result<()> {
        let all = self.0.iter().map(|(&id, inode)| (id, &inode.contents));
        encode_all(ImageName::PipesData, all, dump)
    }
}

/// `pipes-data.img`, read.
struct Source {
    contents: BTreeMap<InodeId, PipeContents>,
    inodes: BTreeMap<InodeId, Rc<PipeInode>>,
}

impl SourcePart for Source {
    fn open(dir: &ImageDir) -> Result<Self> {
        let contents = decode_all(ImageName::PipesData, dir)?;
        Ok(Self { contents, inodes: BTreeMap::new() })
    }

    fn end(self) -> Result<()> {
        match self.contents.first_key_value() {
            None => Ok(()),
            Some((id, _)) => {
                let reason = "no file is an end of this pipe";
                Err(corrupt(ImageName::PipesData, "pipe", id.as_raw(), reason))
            }
        }
    }
}

impl Source {
    fn inode(&mut self, id: InodeId) -> Rc<PipeInode> {
        let inode = self.inodes.entry(id).or_insert_with(|| {
            let contents = self.contents.remove(&id).unwrap_or_default();
            Rc::new(PipeInode { id, contents, waiting: Cell::new(0) })
        });
        inode.waiting.set(inode.waiting.get() + 1);
        Rc::clone(inode)
    }
}

/// Pipes some of whose ends are still to be created.
#[derive(Default)]
struct Open(BTreeMap<InodeId, Ends>);

/// What `pipe2(2)` made, as far as nobody has it yet.
struct Ends {
    read: Option<OwnedFd>,
    write: Option<OwnedFd>,
    /// Both are taken: the one that is left here is only a way to the pipe.
    taken: bool,
}

impl Stash for Open {
    fn reached(&mut self, _: Milestone) -> Result<()> {
        // An end that nobody has must not be held here either.
        self.0.clear();
        Ok(())
    }
}

impl Ends {
    fn new() -> Result<Self> {
        let (read, write) =
            pipe_with(PipeFlags::CLOEXEC).map_err(Error::kernel("pipe2", Pipe::NAME))?;
        Ok(Self { read: Some(read), write: Some(write), taken: false })
    }

    /// A description with this status; `last` if there are no more to come.
    /// One end stays here until then, to open others through.
    fn take(&mut self, status: &Status, last: bool) -> Result<OwnedFd> {
        let flags = status.open_flags();
        let special = flags.intersects(OFlags::LARGEFILE | OFlags::PATH);
        let (end, other) = match flags & OFlags::ACCMODE {
            OFlags::RDONLY => (&mut self.read, &self.write),
            _ => (&mut self.write, &self.read),
        };
        let as_made = !special && !self.taken && flags & OFlags::ACCMODE != OFlags::RDWR;
        if let Some(file) = end.take_if(|_| as_made) {
            if other.is_none() && !last {
                let way = fcntl_dupfd_cloexec(&file, 0).map_err(Error::kernel("dup", Pipe::NAME));
                *end = Some(way?);
                self.taken = true;
            }
            status.apply_over(OFlags::empty(), Pipe::NAME, file.as_fd())?;
            return Ok(file);
        }
        let through = end.as_ref().or(other.as_ref()).expect("one end stays");
        let file = reopen(through.as_fd(), flags | OFlags::NONBLOCK)
            .map_err(Error::kernel("open", Pipe::NAME))?;
        status.apply(Pipe::NAME, file.as_fd())?;
        Ok(file)
    }
}

impl Pipe {
    /// See [`File::inherit_key`](super::File::inherit_key).
    pub(super) fn inherit_key(&self) -> String {
        format!("pipe:[{}]", self.inode.id)
    }
}

impl FileKind for Pipe {
    const NAME: &'static str = "pipe";
    const TYPE: FdType = FdType::Pipe;
    const RANKS: &'static [FillRank] = &[FillRank::Contents];

    fn claims(probe: &Probe) -> bool {
        probe.file_type() == FileType::Fifo && probe.file_system == FsMagic::PIPE
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let status = Status::collect(cx, probe)?;
        let inode = cx.part::<Collected>().inode(cx, probe)?;
        Ok(Self { status, inode })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { status, inode } = self;
        images.part::<Sink>().0.entry(inode.id).or_insert_with(|| Rc::clone(inode));
        let (flags, fown) = status.encode();
        let (id, pipe_id) = (id.as_raw(), inode.id.as_raw());
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id,
            pipe: Some(Box::new(PipeEntry { id, pipe_id, flags, fown })),
            ..FileEntry::default()
        };
        images.put(FileId::from_raw(id), entry);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, images: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(pipe) = entry.pipe.as_deref() else {
            return Err(wrong("it has no pipe_entry"));
        };
        let PipeEntry { id: own_id, pipe_id, flags, fown } = pipe;
        if *own_id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        let status = Status::decode(Self::NAME, id, *flags, fown)?;
        let inode = images.part::<Source>()?.inode(InodeId::from_raw(*pipe_id));
        Ok(Self { status, inode })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        Stage::Early
    }

    fn create(&self, _: FileId, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let Self { status, inode } = self;
        let open = cx.stash::<Open>();
        let ends = match open.0.entry(inode.id) {
            Entry::Occupied(ends) => ends.into_mut(),
            Entry::Vacant(place) => place.insert(Ends::new()?),
        };
        let left = inode.waiting.get().saturating_sub(1);
        inode.waiting.set(left);
        let file = ends.take(status, left == 0)?;
        if left == 0 {
            open.0.remove(&inode.id);
        }
        Ok(file)
    }

    fn inode(&self) -> Option<&dyn Inode> {
        None
    }

    fn fill(_: FillRank, files: &[Created<'_, Self>], _: &FillCx<'_>) -> Result<()> {
        let mut filled = BTreeSet::new();
        for Created { kind, file, .. } in files {
            if filled.insert(kind.inode.id) {
                kind.inode.contents.fill(*file)?;
            }
        }
        Ok(())
    }
}
