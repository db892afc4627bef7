//! Where rooms write files to.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;

use dormouse_image::ImageName;
use dormouse_image::proto::files::FileEntry;
use dormouse_image::store::NewPart;

use super::{FileId, UndoLog};
use crate::Result;

/// Images that the files of some kind write together.
pub(crate) trait SinkPart: Any {
    /// Writes them; all files were encoded.
    fn finish(self: Box<Self>, dump: &NewPart) -> Result<()>;
}

/// The images of all files. Entries come out in the order of their numbers,
/// however they went in: same files, same bytes.
pub struct ImageSink<'a> {
    dump: &'a NewPart,
    files: BTreeMap<FileId, FileEntry>,
    parts: BTreeMap<TypeId, Box<dyn SinkPart>>,
    undo: UndoLog,
}

impl<'a> ImageSink<'a> {
    /// Writes to `dump`.
    #[must_use]
    pub fn new(dump: &'a NewPart) -> Self {
        Self { dump, files: BTreeMap::new(), parts: BTreeMap::new(), undo: UndoLog::default() }
    }

    /// The directory, for images of one file's own.
    pub(crate) fn dump(&self) -> &'a NewPart {
        self.dump
    }

    /// Adds an entry to `files.img`.
    pub(crate) fn put(&mut self, id: FileId, entry: FileEntry) {
        let before = self.files.insert(id, entry.for_images());
        debug_assert!(before.is_none(), "file {id} is encoded once");
    }

    /// What the rooms of one kind share while they write.
    pub(crate) fn part<P: SinkPart + Default>(&mut self) -> &mut P {
        let part: &mut dyn Any =
            self.parts.entry(TypeId::of::<P>()).or_insert_with(|| Box::new(P::default())).as_mut();
        part.downcast_mut().expect("a part is kept under its own type")
    }

    /// Notes how to undo a change outside of the images, should the dump fail.
    pub(crate) fn undo(&mut self) -> &mut UndoLog {
        &mut self.undo
    }

    /// Writes everything that is not written yet. What it returns is to be
    /// kept until the dump is completed.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(self) -> Result<UndoLog> {
        let Self { dump, files, parts, undo } = self;
        dump.put_all(ImageName::Files, files.values())?;
        parts.into_values().try_for_each(|part| part.finish(dump))?;
        Ok(undo)
    }
}

impl fmt::Debug for ImageSink<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageSink").field("files", &self.files.len()).finish_non_exhaustive()
    }
}
