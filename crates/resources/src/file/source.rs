//! Where rooms read files from.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;

use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_image::{ImageDir, ImageName};
use dormouse_kernel::FdNum;

use super::files::Needed;
use super::{File, FileId, FileRef, Files, TcpConnections};
use crate::corrupt::corrupt;
use crate::{Error, Result};

/// Images that the files of some kind are read from together.
pub(crate) trait SourcePart: Any + Sized {
    /// Reads them.
    fn open(dir: &ImageDir) -> Result<Self>;

    /// Fails if something in them was of no use to any file.
    fn end(self) -> Result<()>;
}

trait AnyPart: Any {
    fn end(self: Box<Self>) -> Result<()>;
}

impl<P: SourcePart> AnyPart for P {
    fn end(self: Box<Self>) -> Result<()> {
        SourcePart::end(*self)
    }
}

/// What a file is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// As an open file description: in an fd table, in flight, or watched.
    Description,
    /// To be opened for a mapping, as an executable or as a directory in use.
    Inode,
    /// As an open file description whose memory is mapped: that of an io_uring.
    Ring,
}

/// That a file is named. There can be a million of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reference {
    file: FileId,
    use_: Use,
    /// Index of the place that names it.
    place: u32,
}

/// A place in an image: the image, what it is in there, and the number of that.
type Named = (ImageName, &'static str, u64);

/// The images of all files, not yet decoded.
pub struct ImageSource<'a> {
    dir: &'a ImageDir,
    entries: BTreeMap<FileId, Rc<FileEntry>>,
    /// What every fd table holds under which number, in the order in which
    /// they were decoded.
    tables: Vec<BTreeMap<u32, FileId>>,
    /// Entries that are parts of others.
    shares: BTreeSet<FileId>,
    references: Vec<Reference>,
    places: Vec<Named>,
    parts: BTreeMap<TypeId, Box<dyn AnyPart>>,
    /// Names that the dump made and that go when the restore is done.
    links: BTreeSet<PathBuf>,
    tcp: TcpConnections,
}

impl<'a> ImageSource<'a> {
    /// Reads `files.img`.
    ///
    /// # Errors
    /// It is no such image, or two entries have one number.
    pub fn open(dir: &'a ImageDir) -> Result<Self> {
        let mut entries = BTreeMap::new();
        if let Some(mut reader) = dir.reader(ImageName::Files)? {
            while let Some(entry) = reader.next_message::<FileEntry>()? {
                let id = FileId::from_raw(entry.id);
                if entries.insert(id, Rc::new(entry)).is_some() {
                    return Err(wrong(id, "two entries have this number"));
                }
            }
        }
        Ok(Self {
            dir,
            entries,
            tables: Vec::new(),
            shares: BTreeSet::new(),
            references: Vec::new(),
            places: Vec::new(),
            parts: BTreeMap::new(),
            links: BTreeSet::new(),
            tcp: TcpConnections::Refuse,
        })
    }

    /// With what is to become of TCP connections.
    #[must_use]
    pub fn with_tcp(self, tcp: TcpConnections) -> Self {
        Self { tcp, ..self }
    }

    /// What is to become of TCP connections.
    pub(crate) fn tcp(&self) -> TcpConnections {
        self.tcp
    }

    /// The directory, for images of one file's own.
    pub(crate) fn dir(&self) -> &'a ImageDir {
        self.dir
    }

    /// The kind of file that entry `id` is tagged as, if there is such an
    /// entry.
    pub(crate) fn kind_of(&self, id: FileId) -> Option<FdType> {
        self.entries.get(&id).and_then(|entry| entry.fd_type())
    }

    /// Notes that `object` number `id` of `image` refers to a file: there will
    /// be one, or decoding fails.
    pub fn file_ref(&mut self, raw: u32, use_: Use, place: Named) -> FileRef {
        let file = FileId::from_raw(raw);
        if self.places.last() != Some(&place) {
            self.places.push(place);
        }
        let place = (self.places.len() - 1) as u32;
        let reference = Reference { file, use_, place };
        if self.references.last() != Some(&reference) {
            self.references.push(reference);
        }
        FileRef(file)
    }

    /// Notes what an fd table holds. Tables are decoded in the order of the
    /// lowest pids that use them.
    pub(super) fn add_table(&mut self, table: BTreeMap<u32, FileId>) {
        self.tables.push(table);
    }

    /// By number, what is in the first fd table that has `file`.
    pub(crate) fn numbers_beside(&self, file: FileId) -> Option<BTreeMap<u32, FileId>> {
        let holds = |table: &&BTreeMap<u32, FileId>| table.values().any(|&own| own == file);
        self.tables.iter().find(holds).cloned()
    }

    /// An entry that is a part of another.
    pub(crate) fn share(&mut self, id: FileId) -> Option<Rc<FileEntry>> {
        let entry = self.entries.get(&id)?;
        self.shares.insert(id);
        Some(Rc::clone(entry))
    }

    /// Notes a name that the dump made, and that is to go when the restore is
    /// done.
    pub(crate) fn removes(&mut self, name: PathBuf) {
        self.links.insert(name);
    }

    /// What the files of one kind share while they are decoded.
    ///
    /// # Errors
    /// Their images are damaged.
    pub(crate) fn part<P: SourcePart>(&mut self) -> Result<&mut P> {
        use std::collections::btree_map::Entry;
        let part = match self.parts.entry(TypeId::of::<P>()) {
            Entry::Occupied(part) => part.into_mut(),
            Entry::Vacant(place) => place.insert(Box::new(P::open(self.dir)?)),
        };
        let part: &mut dyn Any = part.as_mut();
        Ok(part.downcast_mut().expect("a part is kept under its own type"))
    }

    /// Decodes every file, and holds every reference against them.
    ///
    /// # Errors
    /// An entry is damaged; a reference leads nowhere; an entry is of no use
    /// to anybody.
    pub fn finish(mut self) -> Result<Files> {
        let mut files = Vec::with_capacity(self.entries.len());
        // Parts of other entries are paths. So those come last, when it is
        // known which of them are files of their own.
        let is_path = |entry: &FileEntry| entry.kind == i32::from(FdType::Reg);
        let entries = self.entries.clone();
        let (paths, others): (Vec<_>, _) = entries.iter().partition(|(_, entry)| is_path(entry));
        let others: Vec<_> = others;
        for (&id, entry) in others.into_iter().chain(paths) {
            if !self.shares.contains(&id) {
                let file = File::decode(id, entry, &mut self)?;
                files.push((id, Needed { file, described: false, opened: false }));
            }
        }
        drop(entries);
        self.entries.clear();
        let mut files: BTreeMap<_, _> = files.into_iter().collect();
        self.parts.into_values().try_for_each(AnyPart::end)?;
        for Reference { file: id, use_, place } in self.references {
            let (image, object, by) = self.places[place as usize];
            let lost = |reason| Error::Corrupt { image, object, id: by, reason };
            let needed = files.get_mut(&id);
            let needed = needed.ok_or_else(|| lost("it names a file that is not there"))?;
            match use_ {
                Use::Description => needed.described = true,
                Use::Ring if needed.file.tag() == FdType::IoUring => needed.described = true,
                Use::Inode if needed.file.inode().is_some() => needed.opened = true,
                Use::Inode | Use::Ring => {
                    return Err(lost("it names a file that cannot be mapped"));
                }
            }
        }
        let used = |id: &FileId, needed: &Needed| {
            needed.described || needed.opened || self.shares.contains(id)
        };
        if let Some((&id, _)) = files.iter().find(|(id, needed)| !used(id, needed)) {
            return Err(wrong(id, "nothing refers to it"));
        }
        let is_async = |needed: &Needed| needed.file.status().is_async();
        let signalling = files.iter().filter(|(_, needed)| is_async(needed));
        let signalling: BTreeSet<_> = signalling.map(|(&id, _)| id).collect();
        let mut announced = BTreeMap::new();
        if !signalling.is_empty() {
            let all = self.tables.iter().flatten();
            for (&fd, &id) in all.filter(|(_, id)| signalling.contains(id)) {
                announced.entry(id).or_insert(FdNum::from_raw(fd));
            }
        }
        Ok(Files::new(files, announced, self.links))
    }
}

fn wrong(id: FileId, reason: &'static str) -> Error {
    corrupt(ImageName::Files, "file", id.as_raw(), reason)
}

impl fmt::Debug for ImageSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageSource").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}
