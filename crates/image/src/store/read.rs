//! Reading a directory of images.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::BufReader;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use crate::error::{ImageError, Result};
use crate::framing::Reader;
use crate::magic::IMAGES_VERSION;
use crate::name::ImageName;
use crate::proto::inventory::InventoryEntry;
use crate::store::PARENT;

/// Size of an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSize {
    /// Its length in bytes.
    pub len: u64,
    /// Bytes it takes on disk; less where it has holes.
    pub allocated: u64,
}

/// Reads an image file.
pub type ImageReader = Reader<BufReader<File>>;

/// A directory of images to read from. It remembers which it was asked for.
#[derive(Debug)]
pub struct ImageDir {
    fd: Arc<OwnedFd>,
    path: PathBuf,
    read: Mutex<BTreeSet<ImageName>>,
}

impl ImageDir {
    /// Opens the directory of a complete dump, and reads its inventory.
    ///
    /// # Errors
    /// When it has none, or one of another format.
    pub fn open(path: &Path) -> Result<(Self, InventoryEntry)> {
        let dir = Self::open_part(CWD, path)?;
        let inventory = dir.inventory()?;
        Ok((dir, inventory))
    }

    /// The same for a directory that is open already; `path` is for errors.
    ///
    /// # Errors
    /// When it has no inventory, or one of another format.
    pub fn from_fd(fd: OwnedFd, path: PathBuf) -> Result<(Self, InventoryEntry)> {
        let dir = Self { fd: Arc::new(fd), path, read: Mutex::default() };
        let inventory = dir.inventory()?;
        Ok((dir, inventory))
    }

    /// A directory that need not have an inventory, such as the `parent` of another.
    pub(crate) fn open_part(at: impl AsFd, path: &Path) -> Result<Self> {
        let fd =
            openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| ImageError::io("open", path, e))?;
        Ok(Self { fd: Arc::new(fd), path: path.to_owned(), read: Mutex::default() })
    }

    /// The directory this dump builds upon, if there is one.
    ///
    /// # Errors
    /// When `parent` is there but is no directory.
    pub fn parent(&self) -> Result<Option<Self>> {
        let path = self.path.join(PARENT);
        match openat(
            &self.fd,
            PARENT,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            Ok(fd) => Ok(Some(Self { fd: Arc::new(fd), path, read: Mutex::default() })),
            // A dangling link is an error: its dump cannot be restored.
            Err(Errno::NOENT) if statat(&self.fd, PARENT, AtFlags::SYMLINK_NOFOLLOW).is_err() => {
                Ok(None)
            }
            Err(e) => Err(ImageError::io("open", &path, e)),
        }
    }

    /// Where `parent` leads, if it is there: the target of the link, or its own name.
    ///
    /// # Errors
    /// When the link cannot be read.
    pub fn parent_target(&self) -> Result<Option<OsString>> {
        match readlinkat(&self.fd, PARENT, Vec::new()) {
            Ok(target) => Ok(Some(OsString::from_vec(target.into_bytes()))),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::INVAL) => Ok(Some(PARENT.into())),
            Err(e) => Err(ImageError::io("read", &self.path.join(PARENT), e)),
        }
    }

    /// The directory's path, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory itself.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The same, for as long as anybody has it.
    pub(crate) fn share(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }

    /// The path of an image, for messages.
    #[must_use]
    pub fn path_of(&self, name: ImageName) -> PathBuf {
        self.path.join(name.to_string())
    }

    /// The inventory, which makes a dump complete.
    ///
    /// # Errors
    /// When there is none, or one of another format.
    pub fn inventory(&self) -> Result<InventoryEntry> {
        let inventory: InventoryEntry = self
            .find_one(ImageName::Inventory)?
            .ok_or_else(|| ImageError::Incomplete { dir: self.path.clone() })?;
        if inventory.img_version == IMAGES_VERSION {
            Ok(inventory)
        } else {
            Err(ImageError::Version { dir: self.path.clone(), version: inventory.img_version })
        }
    }

    /// The one message of an image, or `None` if there is no such image.
    ///
    /// # Errors
    /// When the image holds anything else.
    pub fn find_one<M: Message + Default + 'static>(&self, name: ImageName) -> Result<Option<M>> {
        let Some(mut reader) = self.reader_of::<M>(name)? else { return Ok(None) };
        let message = reader.need_message()?;
        reader.end()?;
        Ok(Some(message))
    }

    /// The one message of an image.
    ///
    /// # Errors
    /// When there is no such image, or it holds anything else.
    pub fn get_one<M: Message + Default + 'static>(&self, name: ImageName) -> Result<M> {
        self.find_one(name)?.ok_or_else(|| ImageError::Missing { path: self.path_of(name) })
    }

    /// All messages of an image; none if there is no such image.
    ///
    /// # Errors
    /// When the image holds anything else.
    pub fn get_all<M: Message + Default + 'static>(&self, name: ImageName) -> Result<Vec<M>> {
        let mut messages = Vec::new();
        if let Some(mut reader) = self.reader_of::<M>(name)? {
            while let Some(message) = reader.next_message()? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    /// Reads an image step by step (those with raw bytes between messages), or `None` if there is
    /// no such image.
    ///
    /// # Errors
    /// When it cannot be opened or begins with the wrong numbers.
    pub fn reader(&self, name: ImageName) -> Result<Option<ImageReader>> {
        self.open_file(name)?
            .map(|(file, len)| Reader::of_len(file, len, name.kind().magic, &self.path_of(name)))
            .transpose()
    }

    /// An image as a plain file, from its first byte, or `None` if there is no such image.
    ///
    /// # Errors
    /// When it cannot be opened, or is no regular file.
    pub fn find_file(&self, name: ImageName) -> Result<Option<File>> {
        Ok(self.open_file(name)?.map(|(file, _)| file))
    }

    /// The file, and its length in bytes.
    fn open_file(&self, name: ImageName) -> Result<Option<(File, u64)>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
        let path = || self.path_of(name);
        let fd = match open_in(&self.fd, name) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => {
                // What cannot be opened at all, such as a socket, is no image either.
                let stat = statat(&self.fd, name.to_string(), AtFlags::empty());
                let kind = stat.map(|stat| FileType::from_raw_mode(stat.st_mode));
                return Err(match kind {
                    Ok(FileType::RegularFile) | Err(_) => ImageError::io("open", &path(), e),
                    Ok(kind) => ImageError::no_file(path(), kind),
                });
            }
        };
        let stat = fstat(&fd).map_err(|e| ImageError::io("stat", &path(), e))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::RegularFile {
            return Err(ImageError::no_file(path(), kind));
        }
        Ok(Some((File::from(fd), u64::try_from(stat.st_size).unwrap_or(0))))
    }

    /// The names of all image files, in order.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn names(&self) -> Result<BTreeSet<ImageName>> {
        let entries = self.entries()?.into_iter();
        Ok(entries.filter_map(|name| ImageName::parse(name.as_encoded_bytes())).collect())
    }

    /// Sizes of all image files.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<BTreeMap<ImageName, FileSize>> {
        let mut images = BTreeMap::new();
        for name in self.entries()? {
            if let Some(image) = ImageName::parse(name.as_encoded_bytes()) {
                let stat = statat(&self.fd, &name, AtFlags::empty())
                    .map_err(|e| ImageError::io("stat", &self.path_of(image), e))?;
                let count = |n| u64::try_from(n).unwrap_or(0);
                let size =
                    FileSize { len: count(stat.st_size), allocated: count(stat.st_blocks) * 512 };
                images.insert(image, size);
            }
        }
        Ok(images)
    }

    /// The image files nobody has asked for so far, and those files ending in `.img` that are no
    /// images we know: what they hold would be lost. (Files about the dump, such as statistics, do
    /// not count.)
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn unread(&self) -> Result<Vec<OsString>> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unread: Vec<_> = self
            .entries()?
            .into_iter()
            .filter(|name| match ImageName::parse(name.as_encoded_bytes()) {
                Some(image) => !read.contains(&image) && !image.is_about_dump(),
                None => name.as_encoded_bytes().ends_with(b".img"),
            })
            .collect();
        unread.sort();
        Ok(unread)
    }

    fn reader_of<M: 'static>(&self, name: ImageName) -> Result<Option<ImageReader>> {
        assert!(name.kind().holds::<M>(), "{name} holds no {}", std::any::type_name::<M>());
        self.reader(name)
    }

    fn entries(&self) -> Result<Vec<OsString>> {
        entries(&self.fd).map_err(|e| ImageError::io("list", &self.path, e))
    }
}

/// Opens an image.
pub(crate) fn open_in(dir: impl AsFd, name: ImageName) -> Result<OwnedFd, Errno> {
    // Without NONBLOCK the open of a fifo would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    openat(dir, name.to_string(), flags, Mode::empty())
}

/// The names in a directory, but for `.` and `..`.
pub(super) fn entries(dir: &OwnedFd) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}
