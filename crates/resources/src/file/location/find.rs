//! Whether a file can be found again, and how.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use dormouse_kernel::HostPid;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, Statx, StatxFlags, makedev, openat, statx,
};
use rustix::io::Errno;

use super::barred;
use super::ghost::{Ghost, Ghosts};
use super::names::PRIVATE;
use super::task::{PROC, TaskFile};
use super::{Link, Reach};
use crate::file::{CollectCx, FsMagic, LinkRemap, Probe};
use crate::unseen::open_unseen;
use crate::{Error, Result};

/// What the kernel appends to the path of a file that has lost its name
/// (`d_path`, `fs/d_path.c`). A name can end so by itself.
const DELETED: &[u8] = b" (deleted)";

/// How many names in the directory of a lost file are held against it.
const SIBLINGS: usize = 1 << 16;

/// File systems whose files the kernel makes, and nobody else can.
const PSEUDO: [FsMagic; 8] = [
    FsMagic::PROC,
    FsMagic::SYS,
    FsMagic::CGROUP,
    FsMagic::CGROUP2,
    FsMagic::DEBUG,
    FsMagic::TRACE,
    FsMagic::SECURITY,
    FsMagic::DEVPTS,
];

/// Whether the kernel makes up what is in it.
pub(super) fn is_pseudo(probe: &Probe) -> bool {
    PSEUDO.contains(&probe.file_system)
}

/// Whether it is a file that tells of changes until it is read, and is a new one until then
/// (`kernfs_generic_poll`, `fs/kernfs/file.c`).
pub(super) fn tells_changes(probe: &Probe) -> bool {
    probe.has_description()
        && !probe.is_path_only()
        && probe.file_type() == FileType::RegularFile
        && probe.flags() & OFlags::ACCMODE != OFlags::WRONLY
        && [FsMagic::SYS, FsMagic::CGROUP, FsMagic::CGROUP2].contains(&probe.file_system)
}

/// The name of the file, and how to get at it.
pub(super) fn find(cx: &CollectCx<'_>, probe: &Probe) -> Result<(PathBuf, Reach)> {
    let link = &probe.link;
    let unsupported = |reason, hint| Error::Unsupported {
        object: kind(probe),
        detail: link.clone().into(),
        reason,
        hint,
    };
    let linked = || link_beside(cx, probe, without_suffix(link), None);
    if let Some(found) = leads_to(link, &probe.stat)? {
        barred::may_open(probe, &found)?;
        if is_silly_name(probe) {
            return linked().ok_or_else(|| {
                unsupported(
                    "it is unlinked, and its NFS server removes it when it is closed",
                    "use --link-remap to let the checkpoint keep it by a hard link",
                )
            });
        }
        let Some(file) = TaskFile::of(probe, link) else {
            return Ok((link.clone(), Reach::Name));
        };
        let task = HostPid::from_raw(file.task().as_raw()).expect("a pid is positive");
        let start = if cx.ns_pid(task).is_some() { None } else { Some(file.start()?) };
        return Ok((link.clone(), Reach::Task { file, start }));
    }
    let dead = TaskFile::of(probe, without_suffix(link));
    if let Some(file) = dead.filter(|file| file.mount == Path::new(PROC) && !file.is_about_part()) {
        return Ok((without_suffix(link).to_owned(), Reach::DeadTask(file)));
    }
    if is_pseudo(probe) {
        return Err(unsupported(
            "what it told of is gone, so it cannot be opened again",
            "checkpoint the program when it has closed the file",
        ));
    }
    let Some(name) = deleted_name(link) else {
        return Err(unsupported(
            "its path leads to another file now: something is mounted over it",
            "unmount what covers the file",
        ));
    };
    let is_directory = probe.file_type() == FileType::Directory;
    if probe.stat.st_nlink == 0 || is_directory {
        return ghost(cx, probe, name);
    }
    if cx.options.link_remap != LinkRemap::Always
        && let Some(sibling) = sibling(name, probe)?
    {
        return Ok((sibling, Reach::OtherName { lost: name.to_owned() }));
    }
    // On overlayfs a file of a lower layer still counts the name it has lost.
    // Whether that is so, only making a link tells.
    let may_be_lost = probe.file_system == FsMagic::OVERLAY && probe.stat.st_nlink == 1;
    let otherwise = if may_be_lost && cx.options.link_remap != LinkRemap::Never {
        Some(collect_ghost(cx, probe)?)
    } else {
        None
    };
    link_beside(cx, probe, name, otherwise).ok_or_else(|| {
        unsupported(
            "the name it was opened by is gone, and the name it still has is not known",
            "use --link-remap to let the checkpoint give it a name",
        )
    })
}

fn ghost(cx: &CollectCx<'_>, probe: &Probe, name: &Path) -> Result<(PathBuf, Reach)> {
    Ok((name.to_owned(), Reach::Ghost(collect_ghost(cx, probe)?)))
}

fn collect_ghost(cx: &CollectCx<'_>, probe: &Probe) -> Result<Rc<Ghost>> {
    // The kernel counts blocks of 512 bytes.
    let on_disk = u64::try_from(probe.stat.st_blocks).unwrap_or(0) * 512;
    if probe.file_type() == FileType::RegularFile && on_disk > cx.options.ghost_limit {
        return Err(Error::Unsupported {
            object: "an unlinked file",
            detail: probe.link.clone().into(),
            reason: "it is larger than the limit for files whose contents are stored",
            hint: "raise the limit with --ghost-limit",
        });
    }
    cx.part::<Ghosts>().collect(probe, || cx.fresh_inode())
}

/// A hard link, to be made by the dump, beside the name that is lost.
fn link_beside(
    cx: &CollectCx<'_>,
    probe: &Probe,
    name: &Path,
    otherwise: Option<Rc<Ghost>>,
) -> Option<(PathBuf, Reach)> {
    if cx.options.link_remap == LinkRemap::Never {
        return None;
    }
    let entry = cx.fresh_id();
    let path = home(name)?.join(format!("link_remap.{entry}"));
    let link = Link { path, entry, origin: Some(probe.origin()), otherwise };
    Some((name.to_owned(), Reach::Link(link)))
}

/// What there is at the path, if that is this very inode.
fn leads_to(path: &Path, stat: &Stat) -> Result<Option<Statx>> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match statx(CWD, path, flags, StatxFlags::INO) {
        Ok(found) => {
            let device = makedev(found.stx_dev_major, found.stx_dev_minor);
            Ok(Some(found).filter(|_| device == stat.st_dev && found.stx_ino == stat.st_ino))
        }
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::NAMETOOLONG) => Ok(None),
        Err(error) => Err(Error::kernel("stat", path)(error)),
    }
}

/// The directory that a lost file was in: not the one that a restore has made for it.
fn home(name: &Path) -> Option<&Path> {
    let parent = name.parent()?;
    let own = parent.file_name().map(OsStr::as_bytes);
    let is_private = own.is_some_and(|own| own.starts_with(PRIVATE.as_bytes()));
    if is_private { parent.parent() } else { Some(parent) }
}

/// Another name of the file in the directory it was in.
fn sibling(name: &Path, probe: &Probe) -> Result<Option<PathBuf>> {
    let Some(parent) = home(name) else { return Ok(None) };
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |unseen| openat(CWD, parent, flags | unseen, Mode::empty());
    let dir = match open_unseen(open, |&errno| Some(errno)) {
        Ok(dir) => dir,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => return Ok(None),
        Err(error) => return Err(Error::kernel("open", parent)(error)),
    };
    for entry in Dir::read_from(&dir).map_err(Error::kernel("getdents", parent))?.take(SIBLINGS) {
        let entry = entry.map_err(Error::kernel("getdents", parent))?;
        if entry.ino() == probe.stat.st_ino {
            let path = parent.join(OsStr::from_bytes(entry.file_name().to_bytes()));
            if let Some(found) = leads_to(&path, &probe.stat)? {
                barred::may_link(&probe.link, &found)?;
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

/// The path without the kernel's suffix, if it has that.
fn deleted_name(link: &Path) -> Option<&Path> {
    let name = link.as_os_str().as_bytes().strip_suffix(DELETED)?;
    Some(Path::new(OsStr::from_bytes(name)))
}

pub(super) fn without_suffix(link: &Path) -> &Path {
    deleted_name(link).unwrap_or(link)
}

/// Whether an NFS client gave the file this name when it was unlinked:
/// `.nfs`, 16 digits of its number, 8 of a counter (`fs/nfs/unlink.c`).
fn is_silly_name(probe: &Probe) -> bool {
    let digits = probe
        .link
        .file_name()
        .and_then(|name| name.as_bytes().strip_prefix(b".nfs"))
        .filter(|digits| digits.len() == 24);
    probe.file_system == FsMagic::NFS
        && digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

fn kind(probe: &Probe) -> &'static str {
    match probe.file_type() {
        FileType::Directory => "a directory",
        _ => "a file",
    }
}
