//! `remap-fpath.img`: how files that have lost their name are reached.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use dormouse_image::proto::files::reg::{RemapFilePathEntry, RemapType};
use dormouse_image::store::NewPart;
use dormouse_image::{ImageDir, ImageName};
use dormouse_kernel::NsPid;

use super::ghost::Ghost;
use crate::Result;
use crate::corrupt::corrupt;
use crate::file::sink::SinkPart;
use crate::file::source::SourcePart;
use crate::file::{FileId, InodeId};

/// In images of old versions of CRIU, which write no type: the remap is to a
/// ghost.
const OLD_GHOST: u32 = 1 << 31;

/// What stands in the place of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remap {
    /// A ghost.
    Ghost(InodeId),
    /// The entry of a hard link.
    Link(FileId),
    /// The pid of a task that is dead; the file is below its directory in
    /// `/proc`.
    DeadProcess(NsPid),
}

impl Remap {
    fn entry(self, file: FileId) -> RemapFilePathEntry {
        let (kind, id) = match self {
            Self::Ghost(ghost) => (RemapType::Ghost, ghost.as_raw()),
            Self::Link(link) => (RemapType::Linked, link.as_raw()),
            Self::DeadProcess(pid) => (RemapType::Procfs, pid.as_raw().unsigned_abs()),
        };
        RemapFilePathEntry { orig_id: file.as_raw(), remap_id: id, remap_type: Some(kind.into()) }
    }

    fn of(entry: &RemapFilePathEntry) -> Option<Self> {
        let RemapFilePathEntry { orig_id: _, remap_id: id, remap_type } = *entry;
        let ghost = |id| Some(Self::Ghost(InodeId::from_raw(id)));
        match remap_type.map(RemapType::try_from) {
            Some(Ok(RemapType::Ghost)) => ghost(id),
            None if id & OLD_GHOST != 0 => ghost(id & !OLD_GHOST),
            None | Some(Ok(RemapType::Linked)) => Some(Self::Link(FileId::from_raw(id))),
            Some(Ok(RemapType::Procfs)) => {
                Some(Self::DeadProcess(NsPid::from_raw(id.try_into().ok()?)?))
            }
            Some(Err(_)) => None,
        }
    }
}

/// The remaps of a dump.
#[derive(Default)]
pub(super) struct RemapSink {
    by_file: BTreeMap<FileId, Remap>,
    ghosts: BTreeSet<InodeId>,
}

impl RemapSink {
    pub(super) fn add(&mut self, file: FileId, remap: Remap) {
        self.by_file.insert(file, remap);
    }

    /// Whether the ghost's image is still to be written; it is from now on.
    pub(super) fn is_new(&mut self, ghost: InodeId) -> bool {
        self.ghosts.insert(ghost)
    }
}

impl SinkPart for RemapSink {
    fn finish(self: Box<Self>, dump: &NewPart) -> Result<()> {
        let Self { by_file, ghosts: _ } = *self;
        let entries: Vec<_> = by_file.iter().map(|(&file, remap)| remap.entry(file)).collect();
        Ok(dump.put_all(ImageName::RemapFpath, &entries)?)
    }
}

/// The remaps of a checkpoint.
pub(super) struct RemapSource {
    by_file: BTreeMap<FileId, Remap>,
    dead: BTreeSet<NsPid>,
    ghosts: BTreeMap<InodeId, Rc<Ghost>>,
}

impl RemapSource {
    /// The remap of a file. It has one at most.
    pub(super) fn take(&mut self, file: FileId) -> Option<Remap> {
        self.by_file.remove(&file)
    }

    /// Whether some file is about this task, which is dead.
    pub(super) fn is_dead(&self, task: NsPid) -> bool {
        self.dead.contains(&task)
    }

    /// A ghost, decoded when it is first asked for.
    pub(super) fn ghost(&mut self, id: InodeId, dir: &ImageDir) -> Result<Rc<Ghost>> {
        if let Some(ghost) = self.ghosts.get(&id) {
            return Ok(Rc::clone(ghost));
        }
        let ghost = Rc::new(Ghost::decode(id, dir)?);
        self.ghosts.insert(id, Rc::clone(&ghost));
        Ok(ghost)
    }
}

impl SourcePart for RemapSource {
    fn open(dir: &ImageDir) -> Result<Self> {
        let (mut by_file, mut dead) = (BTreeMap::new(), BTreeSet::new());
        for entry in dir.get_all::<RemapFilePathEntry>(ImageName::RemapFpath)? {
            let wrong = |reason| corrupt(ImageName::RemapFpath, "file", entry.orig_id, reason);
            let remap = Remap::of(&entry).ok_or_else(|| wrong("its remap is of no known kind"))?;
            if let Remap::DeadProcess(task) = remap {
                dead.insert(task);
            }
            if by_file.insert(FileId::from_raw(entry.orig_id), remap).is_some() {
                return Err(wrong("it is remapped twice"));
            }
        }
        Ok(Self { by_file, dead, ghosts: BTreeMap::new() })
    }

    fn end(self) -> Result<()> {
        match self.by_file.first_key_value() {
            None => Ok(()),
            Some((file, _)) => Err(corrupt(
                ImageName::RemapFpath,
                "file",
                file.as_raw(),
                "there is no such file to be remapped",
            )),
        }
    }
}
