//! Where a socket is bound to.
//!
//! Kernel object: `struct unix_address`, and for a path the inode behind it.
//! Truth from: the listing, and `SIOCUNIXFILE`, which leads to the inode whatever
//! has become of its path.
//! Image: `name`, `name_dir`, `deleted` and `file_perms`; where the inode is, if
//! the name does not lead there, has a field of our own.
//! Create: in a directory of its own, so that nothing else is in the way; a
//! stand-in has that as its root, and binds the socket by the very name. Then the
//! inode goes where it belongs, or nowhere.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use dormouse_image::proto::files::unix::{FilePermsEntry, UnixSkEntry, UnixStateEntry};
use dormouse_kernel::clone::Shield;
use dormouse_kernel::sock_diag::UnixDiag;
use dormouse_kernel::socket::{UnixAddress, bind, bound_file};
use dormouse_puppet::Batch;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, stat};
use rustix::io::Errno;

use super::queue::by_descriptor;
use crate::error::Change;
use crate::file::probe::Duplicate;
use crate::file::stand_in::StandIn;
use crate::file::taken::once_free;
use crate::{Error, Result};

/// The address of a socket, and of those that were accepted through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// `sun_path`: with its NUL if it is a path, beginning with one if it is an
    /// abstract name.
    pub(super) name: Vec<u8>,
    /// The inode, of a path.
    pub(super) file: Option<BoundFile>,
}

/// An inode that a socket is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BoundFile {
    /// What tells it from others: device and number. CRIU does not say.
    pub(super) identity: Option<(u32, u32)>,
    /// Where it is, if it still is somewhere.
    pub(super) place: Option<PathBuf>,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Address {
    /// A name that leads nowhere any more.
    pub(super) fn lost(name: Vec<u8>) -> Self {
        let path = name.first().is_some_and(|&first| first != 0);
        let file = BoundFile { identity: None, place: None, mode: 0o755, uid: 0, gid: 0 };
        Self { name, file: path.then_some(file) }
    }

    /// Reads it.
    pub(super) fn collect(socket: &Duplicate<'_>, listed: &UnixDiag) -> Result<Option<Self>> {
        let name = listed.name.clone();
        match name.first() {
            None => return Ok(None),
            Some(0) => return Ok(Some(Self { name, file: None })),
            Some(_) => {}
        }
        let shown = || PathBuf::from(OsStr::from_bytes(path_of(&name)));
        let file = bound_file(socket.get()?).map_err(Error::kernel("SIOCUNIXFILE", shown()))?;
        let stat_of = |path: &Path| stat(path).ok().map(|stat| (stat.st_dev, stat.st_ino));
        let inode = rustix::fs::fstat(&file).map_err(Error::kernel("fstat", shown()))?;
        let here = Some((inode.st_dev, inode.st_ino));
        let link = rustix::fs::readlink(OsStr::from_bytes(&by_descriptor(&file)), Vec::new())
            .map_err(Error::kernel("readlink", shown()))?;
        let link = PathBuf::from(OsStr::from_bytes(link.as_bytes()));
        let place = Some(link).filter(|path| stat_of(path) == here);
        let identity = listed.file.map(|file| (file.device, file.inode));
        let (mode, uid, gid) = (inode.st_mode, inode.st_uid, inode.st_gid);
        let file = BoundFile { identity, place, mode, uid, gid };
        Ok(Some(Self { name, file: Some(file) }))
    }

    /// What two sockets have in common that are bound to one address.
    pub(super) fn key(&self) -> (&[u8], Option<(u32, u32)>) {
        (&self.name, self.file.as_ref().and_then(|file| file.identity))
    }

    /// The path by which it was bound.
    fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(path_of(&self.name)))
    }

    /// The directory that a relative name starts from, if the name leads to
    /// where the inode is.
    fn start(&self, place: &Path) -> Option<PathBuf> {
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        if !self.path().components().all(plain) {
            return None;
        }
        let names = self.path().components().filter(|part| matches!(part, Component::Normal(_)));
        let mut start = place.to_owned();
        for name in names.collect::<Vec<_>>().into_iter().rev() {
            if start.file_name() != Some(name.as_os_str()) || !start.pop() {
                return None;
            }
        }
        Some(start)
    }

    /// Writes it.
    pub(super) fn encode(&self, entry: &mut UnixSkEntry, state: &mut UnixStateEntry) {
        let Self { name, file } = self;
        entry.name.clone_from(name);
        let Some(BoundFile { identity, place, mode, uid, gid }) = file else { return };
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        entry.file_perms = Some(FilePermsEntry { mode: *mode, uid: *uid, gid: *gid });
        state.file_device = identity.map(|(device, _)| device);
        state.file_inode = identity.map(|(_, inode)| inode);
        match place {
            None => entry.deleted = Some(true),
            Some(place) if self.path().is_absolute() => {
                state.path = (place != self.path()).then(|| bytes(place));
            }
            Some(place) => {
                let start = self.start(place);
                if start.is_none() {
                    state.path = Some(bytes(place));
                }
                let start = start.or_else(|| place.parent().map(Path::to_owned));
                entry.name_dir = start.map(|start| bytes(&start));
            }
        }
        if entry.name_dir.is_none() && !self.path().is_absolute() {
            entry.name_dir = Some(b"/".to_vec());
        }
    }

    /// Judges what an image has.
    pub(super) fn decode(
        entry: &UnixSkEntry,
        state: &UnixStateEntry,
    ) -> Result<Option<Self>, &'static str> {
        let name = entry.name.clone();
        if name.is_empty() {
            return Ok(None);
        }
        judge_name(&name)?;
        if name[0] == 0 {
            return Ok(Some(Self { name, file: None }));
        }
        let FilePermsEntry { mode, uid, gid } =
            entry.file_perms.clone().unwrap_or(FilePermsEntry { mode: 0o755, uid: 0, gid: 0 });
        let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        let by_name = || {
            let start = path(entry.name_dir.as_deref().unwrap_or(b"/"));
            // An absolute name replaces what it is joined to.
            start.join(path(path_of(&name)))
        };
        let place = match (entry.deleted.unwrap_or(false), &state.path) {
            (true, _) => None,
            (false, Some(place)) => Some(path(place)),
            (false, None) => Some(by_name()),
        };
        if place.as_ref().is_some_and(|place| !place.is_absolute() || place.file_name().is_none()) {
            return Err("the place of its file is none");
        }
        let identity = state.file_device.zip(state.file_inode);
        let file = BoundFile { identity, place, mode, uid, gid };
        Ok(Some(Self { name, file: Some(file) }))
    }
}

/// Whether a socket could be bound to a name, if it is not empty.
pub(super) fn judge_name(name: &[u8]) -> Result<(), &'static str> {
    match name.first() {
        None => Ok(()),
        Some(_) if UnixAddress::new(name).is_none() => Err("a name is too long"),
        Some(0) => Ok(()),
        Some(_) if path_of(name).contains(&0) || Scratch::walk(name).is_none() => {
            Err("a name is no path")
        }
        Some(_) => Ok(()),
    }
}

/// A path without its NUL.
fn path_of(name: &[u8]) -> &[u8] {
    name.strip_suffix(&[0]).unwrap_or(name)
}

/// Whether a file that was made for a socket is put where the old one was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Publish {
    /// In place of what is there.
    Always,
    /// If nothing is there.
    IfMissing,
}

/// A socket to be bound.
pub(super) struct Binding<'a> {
    pub(super) socket: BorrowedFd<'a>,
    pub(super) address: &'a Address,
    pub(super) publish: Publish,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Bound {
    /// The inode, opened with `O_PATH`, of a path.
    pub(super) file: Option<OwnedFd>,
    /// A path where nothing was before.
    pub(super) made: Option<PathBuf>,
}

/// Binds sockets to their addresses.
pub(super) fn bind_all(bindings: &[Binding<'_>]) -> Result<Vec<Bound>> {
    // Directories that are made go again, even if the command is killed.
    let _shield = Shield::raise();
    let mut scratches = Vec::new();
    let mut batch = Batch::new();
    for Binding { socket, address, publish: _ } in bindings {
        let Some(file) = &address.file else {
            let shown = OsStr::from_bytes(&address.name[1..]);
            let name = UnixAddress::new(&address.name).expect("checked when it was decoded");
            once_free(Errno::ADDRINUSE, || bind(socket, &name))
                .map_err(Error::kernel("bind", shown))?;
            scratches.push(None);
            continue;
        };
        let scratch = Scratch::new(address, file)?;
        scratch.bind(&mut batch, *socket, address);
        scratches.push(Some(scratch));
    }
    if !batch.is_empty() {
        StandIn::new(None)?.run(batch)?;
    }
    let finish = |(binding, scratch): (&Binding<'_>, Option<Scratch>)| match scratch {
        None => Ok(Bound::default()),
        Some(scratch) => scratch.publish(binding),
    };
    bindings.iter().zip(scratches).map(finish).collect()
}

/// A directory that a socket's name leads into, instead of where it would.
struct Scratch {
    directory: PathBuf,
    open: OwnedFd,
    /// Below it: where a relative name starts, and what is made for the name.
    start: PathBuf,
    directories: Vec<PathBuf>,
    /// The socket's file.
    file: PathBuf,
}

impl Scratch {
    /// Where a name leads if there is nothing but what it names: from where it
    /// starts, through which directories, to which file; all below a root.
    fn walk(name: &[u8]) -> Option<(PathBuf, Vec<PathBuf>, PathBuf)> {
        let path = Path::new(OsStr::from_bytes(path_of(name)));
        let ups = path.components().filter(|part| *part == Component::ParentDir).count();
        let mut here = PathBuf::new();
        let mut made = Vec::new();
        if path.is_relative() {
            for _ in 0..ups {
                here.push("x");
                made.push(here.clone());
            }
        }
        let start = here.clone();
        let directory = path.parent()?;
        for part in directory.components() {
            match part {
                Component::Normal(name) => {
                    here.push(name);
                    made.push(here.clone());
                }
                Component::ParentDir => drop(here.pop()),
                Component::RootDir => here = PathBuf::new(),
                Component::CurDir | Component::Prefix(_) => {}
            }
        }
        let file = here.join(path.file_name()?);
        Some((start, made, file))
    }

    /// Makes it, on the file system that the socket's file belongs to.
    fn new(address: &Address, file: &BoundFile) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let temporary = std::env::temp_dir();
        let beside = file.place.as_deref().and_then(Path::parent).unwrap_or(&temporary);
        let directory = loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let directory = beside.join(format!(".dormouse-{}-{number}", std::process::id()));
            match fs::create_dir(&directory) {
                // Another pid namespace has such pids, too.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => {
                    made.map_err(Error::kernel_io("mkdir", &directory))?;
                    break directory;
                }
            }
        };
        let (start, directories, file) =
            Self::walk(&address.name).expect("checked when it was decoded");
        let open = rustix::fs::open(&directory, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let open = open.map_err(Error::kernel("open", &directory))?;
        let scratch = Self { directory, open, start, directories, file };
        for made in &scratch.directories {
            let made = scratch.directory.join(made);
            fs::create_dir_all(&made).map_err(Error::kernel_io("mkdir", &made))?;
        }
        Ok(scratch)
    }

    /// Has a stand-in bind the socket.
    fn bind(&self, batch: &mut Batch, socket: BorrowedFd<'_>, address: &Address) {
        let path = |batch: &mut Batch, path: &Path| {
            let bytes = [path.as_os_str().as_bytes(), &[0]].concat();
            batch.data(&bytes)
        };
        batch.call(libc::SYS_fchdir, [self.open.as_raw_fd().into()]);
        let here = path(batch, Path::new("."));
        batch.call(libc::SYS_chroot, [here.into()]);
        if !self.start.as_os_str().is_empty() {
            let start = path(batch, &self.start);
            batch.call(libc::SYS_chdir, [start.into()]);
        }
        let name = UnixAddress::new(&address.name).expect("checked when it was decoded");
        let len = name.as_bytes().len() as u64;
        let name = batch.data(name.as_bytes());
        batch.call(libc::SYS_bind, [socket.as_raw_fd().into(), name.into(), len.into()]);
    }

    /// Gives the file its owner and mode, and puts it where it belongs.
    fn publish(self, binding: &Binding<'_>) -> Result<Bound> {
        let Some(BoundFile { identity: _, place, mode, uid, gid }) = &binding.address.file else {
            unreachable!("only paths take a directory")
        };
        let path = self.directory.join(&self.file);
        let failed = |call| Error::kernel(call, &path);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
        chownat(rustix::fs::CWD, &path, Some(uid), Some(gid), flags).map_err(failed("chown"))?;
        let mode = Mode::from_raw_mode(*mode & 0o7777);
        chmodat(rustix::fs::CWD, &path, mode, AtFlags::empty()).map_err(failed("chmod"))?;
        let open = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let file = Some(open.map_err(failed("open"))?);
        let Some(place) = place else { return Ok(Bound { file, made: None }) };
        let missing = match rustix::fs::lstat(place) {
            Err(Errno::NOENT) => true,
            Err(source) => return Err(Error::kernel("stat", place)(source)),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Socket => false,
            Ok(stat) => {
                let change = Change::Mode { was: libc::S_IFSOCK, is: stat.st_mode };
                return Err(Error::Changed { path: place.clone(), change });
            }
        };
        if missing || binding.publish == Publish::Always {
            fs::rename(&path, place).map_err(Error::kernel_io("rename", place))?;
        }
        Ok(Bound { file, made: missing.then(|| place.clone()) })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It holds nothing that anybody wants.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// How a socket can be called by whoever connects or sends to it: `file` is its
/// inode, if it is bound to a path.
pub(super) fn reach(address: &Address, file: Option<&OwnedFd>) -> UnixAddress {
    let name = file.map_or_else(|| address.name.clone(), |file| by_descriptor(file.as_fd()));
    UnixAddress::new(&name).expect("checked when it was decoded, or short")
}
