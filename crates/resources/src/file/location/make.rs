//! Making ghosts: inodes that have a name only while they are made.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use dormouse_image::ImageName;
use dormouse_kernel::clone::Shield;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, linkat, mkdirat, mknodat,
    open, symlinkat,
};
use rustix::io;

use super::ghost::{Attributes, Ghost, User};
use super::names::MomentaryName;
use super::open::open_flags;
use crate::file::create::{Milestone, Stash};
use crate::file::probe::reopen;
use crate::file::times::Times;
use crate::file::{CreateCx, FileId, InodeId};
use crate::{Error, Result};

const GHOST: &str = "a ghost file";

/// The ghosts that were made, as long as somebody will open them.
#[derive(Default)]
pub(super) struct Made(BTreeMap<InodeId, Inode>);

struct Inode {
    /// Opened with `O_PATH`, by each name it had.
    by_name: BTreeMap<PathBuf, OwnedFd>,
    /// What can be opened only as long as there is a name.
    ready: BTreeMap<FileId, OwnedFd>,
    /// The descriptions that are still to be created.
    waiting: BTreeSet<FileId>,
    /// Whether it is needed for something else than those.
    keep: bool,
    times: Times,
}

impl Stash for Made {
    fn reached(&mut self, milestone: Milestone) -> Result<()> {
        match milestone {
            Milestone::Created => self.0.retain(|_, inode| inode.keep),
            Milestone::Mapped => {
                // To map a file is to access it.
                for inode in std::mem::take(&mut self.0).into_values() {
                    inode.times.set(inode.path(), GHOST)?;
                }
            }
        }
        Ok(())
    }
}

impl Inode {
    fn path(&self) -> BorrowedFd<'_> {
        self.by_name.values().next().expect("a ghost has a user").as_fd()
    }
}

impl Ghost {
    /// Opens the ghost by the name `name`, for entry `id` of `files.img`.
    pub(super) fn open(
        &self,
        id: FileId,
        name: &Path,
        flags: OFlags,
        cx: &mut CreateCx<'_>,
    ) -> Result<OwnedFd> {
        let key = self.id();
        if !cx.stash::<Made>().0.contains_key(&key) {
            let inode = self.make(cx)?;
            cx.stash::<Made>().0.insert(key, inode);
        }
        let inodes = &mut cx.stash::<Made>().0;
        let inode = inodes.get_mut(&key).expect("it was just made");
        let wanted = self.users.borrow().iter().any(|user| user.id == id && user.flags == flags);
        let file = match inode.ready.remove(&id).filter(|_| wanted) {
            Some(file) => file,
            None => {
                let path = inode.by_name.get(name).expect("a ghost was made by all its names");
                let flags = open_flags(flags) - OFlags::NOFOLLOW;
                reopen(path.as_fd(), flags).map_err(Error::kernel("open", name))?
            }
        };
        inode.waiting.remove(&id);
        if inode.waiting.is_empty() && !inode.keep {
            inodes.remove(&key);
        }
        Ok(file)
    }

    fn make(&self, cx: &CreateCx<'_>) -> Result<Inode> {
        let users = self.users.borrow();
        let files = cx.files();
        let described = |user: &&User| files.is_described(user.id);
        let waiting = users.iter().filter(described).map(|user| user.id).collect();
        let keep = users.iter().any(|user| !files.is_described(user.id))
            || users.iter().any(|user| files.is_opened(user.id));
        let temporary = users.iter().find(|user| user.flags.contains(OFlags::TMPFILE));
        let (by_name, ready) = match temporary {
            Some(user) if self.inode.file_type() == FileType::RegularFile => {
                make_temporary(user, &users)?
            }
            _ => self.make_named(&users)?,
        };
        let inode = Inode { by_name, ready, waiting, keep, times: self.inode.times };
        let path = inode.path();
        if self.inode.file_type() == FileType::RegularFile {
            let file = reopen(path, OFlags::RDWR).map_err(Error::kernel("open", GHOST))?;
            let image = ImageName::GhostFile(self.id().as_raw());
            self.contents.create(&File::from(file), self.inode.size, (cx.images, image))?;
        }
        self.inode.apply(path)?;
        Ok(inode)
    }

    /// Makes the inode under its names, and takes those away.
    fn make_named(&self, users: &[User]) -> Result<Opened> {
        let names: BTreeSet<&Path> = users.iter().map(|user| user.name.as_path()).collect();
        let is_directory = self.inode.file_type() == FileType::Directory;
        // One for all names.
        let _shield = Shield::raise();
        let mut moments: BTreeMap<&Path, MomentaryName> = BTreeMap::new();
        for name in names {
            let first = moments.values().next().map(|moment| moment.path().to_owned());
            let make = |name: &Path| match &first {
                Some(first) => linkat(CWD, first, CWD, name, AtFlags::empty()),
                None => self.inode.make(name),
            };
            moments.insert(name, MomentaryName::make(name, is_directory, "create", make)?.0);
        }
        let open_moment = |name: &Path, flags| {
            let path = moments[name].path();
            open(path, flags, Mode::empty()).map_err(Error::kernel("open", path))
        };
        let path_only = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut opened = Opened::default();
        for &name in moments.keys() {
            opened.0.insert(name.to_owned(), open_moment(name, path_only)?);
        }
        // The way through /proc is a link, which these do not follow.
        let nofollow = |user: &&User| {
            // A fifo's ends are opened in an order of their own.
            let fifo = self.inode.file_type() == FileType::Fifo;
            user.flags.contains(OFlags::NOFOLLOW) && (!fifo || user.flags.contains(OFlags::PATH))
        };
        for user in users.iter().filter(nofollow) {
            let file = open_moment(&user.name, open_flags(user.flags))?;
            opened.1.insert(user.id, file);
        }
        moments.into_values().try_for_each(MomentaryName::remove)?;
        Ok(opened)
    }
}

/// By name, and by entry.
type Opened = (BTreeMap<PathBuf, OwnedFd>, BTreeMap<FileId, OwnedFd>);

/// Makes a file that can still be given a name by `linkat(2)`, as `user` has
/// it: by `O_TMPFILE`.
fn make_temporary(user: &User, users: &[User]) -> Result<Opened> {
    let parent = user.name.parent().unwrap_or(Path::new("/"));
    let flags = user.flags | OFlags::CLOEXEC;
    let file = open(parent, flags, Mode::RUSR | Mode::WUSR)
        .map_err(Error::kernel("open with O_TMPFILE", parent))?;
    let mut by_name = BTreeMap::new();
    for user in users {
        let path = reopen(file.as_fd(), OFlags::PATH).map_err(Error::kernel("open", &user.name))?;
        by_name.insert(user.name.clone(), path);
    }
    Ok((by_name, BTreeMap::from([(user.id, file)])))
}

impl Attributes {
    /// Makes an empty inode of this type that nobody but its maker can use.
    fn make(&self, name: &Path) -> io::Result<()> {
        let private = Mode::RUSR | Mode::WUSR;
        match self.file_type() {
            FileType::Directory => mkdirat(CWD, name, Mode::RWXU),
            FileType::Symlink => {
                let target = self.target.as_deref().unwrap_or_default();
                symlinkat(OsStr::from_bytes(target), CWD, name)
            }
            FileType::RegularFile => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                open(name, flags, private).map(drop)
            }
            kind => mknodat(CWD, name, kind, private, self.rdev.as_stat()),
        }
    }

    /// Gives the inode behind `path` its owner, mode and times.
    fn apply(&self, path: BorrowedFd<'_>) -> Result<()> {
        let name = format!("/proc/self/fd/{}", path.as_raw_fd());
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        chownat(path, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
            .map_err(Error::kernel("chown", GHOST))?;
        if self.file_type() != FileType::Symlink {
            chmodat(CWD, &name, Mode::from_raw_mode(self.mode), AtFlags::empty())
                .map_err(Error::kernel("chmod", GHOST))?;
        }
        // After the owner, with whom some of them change.
        self.extended.apply(path)?;
        self.times.set(path, GHOST)
    }
}
