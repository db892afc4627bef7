//! Writing a directory of images.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use prost::Message;
use rustix::fs::{
    Access, AtFlags, CWD, Mode, OFlags, accessat, mkdirat, openat, readlinkat, renameat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use crate::error::{ImageError, Result};
use crate::framing::{MAX_MESSAGE, write_header, write_message};
use crate::name::ImageName;
use crate::proto::inventory::InventoryEntry;
use crate::store::{PARENT, read};

/// Name of the inventory until the dump is complete.
const INVENTORY_TMP: &str = "inventory.img.tmp";

/// A dump that is being written. Nobody takes the directory for a dump before
/// [`NewDump::commit`]; if that does not happen, everything written is removed again.
#[derive(Debug)]
pub struct NewDump {
    part: NewPart,
    subdirs: Mutex<Vec<&'static str>>,
    committed: bool,
}

/// The images of one directory.
#[derive(Debug)]
pub struct NewPart {
    fd: OwnedFd,
    path: PathBuf,
    /// Every image created here; `true` as long as its writer is at work.
    images: Mutex<BTreeMap<ImageName, bool>>,
}

/// A directory that a dump is to be written to. Nothing in it has been touched yet: what it has of
/// an earlier dump is one until [`Self::begin`].
#[derive(Debug)]
pub struct DumpPlace {
    fd: OwnedFd,
    path: PathBuf,
}

impl DumpPlace {
    /// Opens an existing directory.
    ///
    /// # Errors
    /// When it cannot be opened, or nothing can be created in it.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd =
            openat(CWD, path, flags, Mode::empty()).map_err(|e| ImageError::io("open", path, e))?;
        accessat(&fd, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
            .map_err(|e| ImageError::io("write to", path, e))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Begins a dump. One that is there already stops being one, and its images and its link to a
    /// parent go: what this dump has no use for must not be taken for a part of it. Files about the
    /// machine or a dump's cost stay, as do all files that are no images.
    ///
    /// # Errors
    /// When the directory cannot be written to.
    pub fn begin(self) -> Result<NewDump> {
        let Self { fd, path } = self;
        let part = NewPart { fd, path, images: Mutex::default() };
        // First the inventory: whatever happens next, this is no dump any more.
        part.remove(&ImageName::Inventory.to_string())?;
        part.remove(INVENTORY_TMP)?;
        part.remove_stale()?;
        part.remove_link(PARENT)?;
        Ok(NewDump { part, subdirs: Mutex::default(), committed: false })
    }
}

impl NewDump {
    /// Begins a dump in an existing directory, as [`DumpPlace::begin`] does.
    ///
    /// # Errors
    /// When the directory cannot be opened or written to.
    pub fn begin(path: &Path) -> Result<Self> {
        DumpPlace::open(path)?.begin()
    }

    /// Makes `parent` a link to the directory this dump builds upon. `target` is seen from the
    /// directory of this dump.
    ///
    /// # Errors
    /// When the link cannot be made.
    pub fn link_parent(&self, target: &Path) -> Result<()> {
        self.part.remove(PARENT)?;
        symlinkat(target, &self.part.fd, PARENT)
            .map_err(|e| ImageError::io("link", &self.part.path.join(PARENT), e))?;
        lock(&self.subdirs).push(PARENT);
        Ok(())
    }

    /// A directory inside, which belongs to the dump as a whole.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn subdir(&self, name: &'static str) -> Result<NewPart> {
        let path = self.part.path.join(name);
        match mkdirat(&self.part.fd, name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => {}
            Err(e) => return Err(ImageError::io("create", &path, e)),
        }
        lock(&self.subdirs).push(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.part.fd, name, flags, Mode::empty())
            .map_err(|e| ImageError::io("open", &path, e))?;
        let part = NewPart { fd, path, images: Mutex::default() };
        part.remove_stale()?;
        Ok(part)
    }

    /// Completes the dump: from here on the directory is one.
    ///
    /// # Errors
    /// When a writer was dropped halfway, or the inventory cannot be written. The dump is
    /// abandoned then.
    pub fn commit(mut self, inventory: &InventoryEntry) -> Result<()> {
        if let Some((&image, _)) = lock(&self.part.images).iter().find(|(_, open)| **open) {
            return Err(ImageError::Unfinished { image });
        }
        let path = self.part.path_of(ImageName::Inventory);
        let file = self.part.create_file(INVENTORY_TMP)?;
        let mut writer = Writer::begin(&self.part, ImageName::Inventory, file)?;
        writer.put(inventory)?;
        writer.flush()?;
        renameat(&self.part.fd, INVENTORY_TMP, &self.part.fd, ImageName::Inventory.to_string())
            .map_err(|e| ImageError::io("rename", &path, e))?;
        self.committed = true;
        Ok(())
    }

    /// Removes everything this dump wrote.
    ///
    /// # Errors
    /// When something stays.
    pub fn abandon(mut self) -> Result<()> {
        self.committed = true;
        self.undo()
    }

    fn undo(&self) -> Result<()> {
        let mut first = self.part.remove(INVENTORY_TMP);
        for name in lock(&self.part.images).keys() {
            first = first.and(self.part.remove(&name.to_string()));
        }
        for name in lock(&self.subdirs).iter() {
            first = first.and(self.undo_subdir(name));
        }
        first
    }

    fn undo_subdir(&self, name: &str) -> Result<()> {
        let path = self.part.path.join(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&self.part.fd, name, flags, Mode::empty()) {
            Ok(fd) => {
                let part = NewPart { fd, path: path.clone(), images: Mutex::default() };
                part.remove_stale()?;
                match unlinkat(&self.part.fd, name, AtFlags::REMOVEDIR) {
                    // Somebody else keeps something there.
                    Ok(()) | Err(Errno::NOTEMPTY | Errno::NOENT) => Ok(()),
                    Err(e) => Err(ImageError::io("remove", &path, e)),
                }
            }
            Err(Errno::LOOP | Errno::NOTDIR) => self.part.remove(name),
            Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(ImageError::io("open", &path, e)),
        }
    }
}

impl std::ops::Deref for NewDump {
    type Target = NewPart;

    fn deref(&self) -> &NewPart {
        &self.part
    }
}

impl Drop for NewDump {
    fn drop(&mut self) {
        if !self.committed {
            // Nobody is left to tell; without an inventory what stays is no dump.
            let _ = self.undo();
        }
    }
}

impl NewPart {
    /// The directory itself.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The directory's path, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes an image of one message.
    ///
    /// # Errors
    /// When the image exists already in this dump, or cannot be written.
    pub fn put_one<M: Message + 'static>(&self, name: ImageName, message: &M) -> Result<()> {
        self.put_all(name, [message])
    }

    /// Writes an image of many messages of one type.
    ///
    /// # Errors
    /// When the image exists already in this dump, or cannot be written.
    pub fn put_all<'m, M: Message + 'static>(
        &self,
        name: ImageName,
        messages: impl IntoIterator<Item = &'m M>,
    ) -> Result<()> {
        let mut writer = self.writer(name)?;
        for message in messages {
            writer.put(message)?;
        }
        writer.finish()
    }

    /// Begins an image to be written step by step.
    ///
    /// # Errors
    /// When the image exists already in this dump, or cannot be created.
    pub fn writer(&self, name: ImageName) -> Result<Writer<'_>> {
        let file = self.create(name, true)?;
        Writer::begin(self, name, file)
    }

    /// Creates an image without magic and gives the file away, open for reading and writing: for
    /// pages, which several threads write in place.
    ///
    /// # Errors
    /// When the image exists already in this dump, or cannot be created.
    pub fn raw(&self, name: ImageName) -> Result<File> {
        assert_eq!(name.kind().magic.words().len(), 0, "{name} begins with a magic");
        self.create(name, false)
    }

    fn path_of(&self, name: ImageName) -> PathBuf {
        self.path.join(name.to_string())
    }

    fn create(&self, name: ImageName, open: bool) -> Result<File> {
        assert!(name != ImageName::Inventory, "the inventory is written by commit");
        if lock(&self.images).insert(name, open).is_some() {
            return Err(ImageError::Twice { image: name });
        }
        self.create_file(&name.to_string())
    }

    fn create_file(&self, name: &str) -> Result<File> {
        // Never through a link somebody else put here.
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR);
        let file = match create() {
            // What was there went when the dump was begun; this is newer.
            Err(Errno::EXIST) => {
                self.remove(name)?;
                create()
            }
            created => created,
        };
        file.map(File::from).map_err(|e| ImageError::io("create", &self.path.join(name), e))
    }

    fn remove(&self, name: &str) -> Result<()> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(ImageError::io("remove", &self.path.join(name), e)),
        }
    }

    fn remove_link(&self, name: &str) -> Result<()> {
        match readlinkat(&self.fd, name, Vec::new()) {
            Ok(_) => self.remove(name),
            Err(Errno::NOENT | Errno::INVAL) => Ok(()),
            Err(e) => Err(ImageError::io("read", &self.path.join(name), e)),
        }
    }

    fn remove_stale(&self) -> Result<()> {
        let names = read::entries(&self.fd).map_err(|e| ImageError::io("list", &self.path, e))?;
        let stale: BTreeSet<_> = names
            .iter()
            .filter_map(|name| ImageName::parse(name.as_encoded_bytes()))
            .filter(|name| !name.is_about_dump())
            .collect();
        stale.iter().try_for_each(|name| self.remove(&name.to_string()))
    }
}

/// Writes one image. Only [`Writer::finish`] says whether all of it arrived.
#[derive(Debug)]
#[must_use = "an image is complete only after finish()"]
pub struct Writer<'a> {
    part: &'a NewPart,
    name: ImageName,
    out: BufWriter<File>,
    scratch: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn begin(part: &'a NewPart, name: ImageName, file: File) -> Result<Self> {
        let mut writer =
            Self { part, name, out: BufWriter::with_capacity(64 << 10, file), scratch: Vec::new() };
        write_header(&mut writer.out, name.kind().magic).map_err(|e| writer.error(e))?;
        Ok(writer)
    }

    /// Appends a message.
    ///
    /// # Errors
    /// When it is too big or cannot be written.
    pub fn put<M: Message + 'static>(&mut self, message: &M) -> Result<()> {
        assert!(
            self.name.kind().holds::<M>(),
            "{} holds no {}",
            self.name,
            std::any::type_name::<M>()
        );
        let len = message.encoded_len();
        if len as u64 > MAX_MESSAGE {
            return Err(ImageError::TooBig { image: self.name, len });
        }
        write_message(&mut self.out, message, &mut self.scratch).map_err(|e| self.error(e))
    }

    /// Appends raw bytes.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn put_payload(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|e| self.error(e))
    }

    /// Appends all raw bytes `from` has, and says how many those were.
    ///
    /// # Errors
    /// When they cannot be read or written.
    pub fn copy_payload(&mut self, from: &mut impl Read) -> Result<u64> {
        io::copy(from, &mut self.out).map_err(|e| self.error(e))
    }

    /// Ends the image.
    ///
    /// # Errors
    /// When the rest cannot be written.
    pub fn finish(mut self) -> Result<()> {
        self.flush()?;
        lock(&self.part.images).insert(self.name, false);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(|e| self.error(e))
    }

    fn error(&self, source: io::Error) -> ImageError {
        ImageError::io("write", &self.part.path_of(self.name), source)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
