//! Files that have a path, or had one.
//!
//! Kernel object: a dentry and its inode, and the mount they are reached by.
//! Truth from: the link in `/proc/PID/fd`, held against what its path leads
//! to now.
//! Image: `reg_file_entry`, `remap-fpath.img`, `ghost-file-ID.img`.
//! Create: what has a path is opened by it, and must be what it was: size and
//! mode are compared. What has none any more (a *ghost*) is made anew, with
//! its contents, under the name it had, and loses that at once; a file that
//! has other names is given one beside the lost one by the dump, if the user
//! allows.
//! What `/proc` has of a task is opened when the task lives, or when its fd table
//! is complete if it is about a part of that; if it is dead, of a process that
//! stands for it and ends. A task that is not of the tree must be the same one:
//! it has the number, and began when that one did.
//! Not preserved, of a ghost: its inode number, change time, and inode flags but
//! those it is refused for (append-only, immutable); where it was, if another file
//! has its name now: `/proc/PID/fd` shows it in a directory beside that then. Of a dead task: its number in the name, if that is another's now,
//! or that it was a thread of a process; what the kernel had read already to give next. A restore that is killed in the few microseconds during which
//! a ghost has its name leaves an empty file there.

mod barred;
mod build_id;
mod contents;
mod find;
mod ghost;
mod make;
mod names;
mod open;
mod pressure;
mod remap;
mod task;

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use dormouse_image::ImageName;
use dormouse_image::proto::files::reg::RegFileEntry;
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_kernel::DeviceId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::{CollectCx, FileId, ImageSink, ImageSource, Origin, Probe, Stage, Status};
use crate::corrupt::corrupt;
use crate::{Error, Result};
use build_id::BuildId;
use ghost::Ghost;
use pressure::Trigger;
use remap::{Remap, RemapSink, RemapSource};
use task::{PROC, TaskFile};

/// Where a file is, and how it is known to be the same one.
#[derive(Debug)]
pub(crate) struct Location {
    /// Its absolute path, or the last one it had.
    name: PathBuf,
    reach: Reach,
    /// `st_mode`.
    mode: Option<u32>,
    /// In bytes. Only regular files that the program does not just append to
    /// have to keep their size.
    size: Option<u64>,
    /// It tells of changes by `EPOLLPRI` until it is read, and has been.
    seen: bool,
    /// It tells by `EPOLLPRI` when the pressure on the system is so high.
    trigger: Option<Trigger>,
    /// Which build of a program or library it is, if the dump has noted that.
    build_id: Option<BuildId>,
}

/// How to get at the file.
#[derive(Debug)]
enum Reach {
    /// By its name.
    Name,
    /// By its name, which is not the one it was opened by. That it has lost.
    OtherName {
        /// The one it has lost.
        lost: PathBuf,
    },
    /// By its name, when the task lives that it is about.
    Task {
        file: TaskFile,
        /// When a task began that is not of the tree.
        start: Option<u64>,
    },
    /// It is about a task that is dead.
    DeadTask(TaskFile),
    /// It is handed over by whoever restores, under its name.
    External,
    /// It has no name at all.
    Ghost(Rc<Ghost>),
    /// It has lost its name, but has others.
    Link(Link),
}

/// How the names of such links begin.
const LINK: &[u8] = b"link_remap.";

/// A hard link that the dump makes.
#[derive(Debug)]
struct Link {
    path: PathBuf,
    /// Its entry in `files.img`.
    entry: FileId,
    /// The file to link, at the dump.
    origin: Option<Origin>,
    /// What it is instead if the kernel finds nothing to link.
    otherwise: Option<Rc<Ghost>>,
}

impl Link {
    /// Makes it. It goes again unless the dump is completed. If the file has
    /// no name at all, it is a ghost.
    fn make(&self, images: &mut ImageSink<'_>) -> Result<Option<&Rc<Ghost>>> {
        let Self { path, entry: _, origin, otherwise } = self;
        let origin = origin.as_ref().expect("a location that is written was collected");
        let file = origin.reopen(OFlags::PATH)?;
        match (names::link(file.as_fd(), path), otherwise) {
            (Ok(()), _) => {}
            (Err(Errno::NOENT), Some(ghost)) => return Ok(Some(ghost)),
            (Err(source), _) => {
                barred::may_link_open(path, file.as_fd())?;
                return Err(Error::kernel("linkat", path)(source));
            }
        }
        let path = path.clone();
        images.undo().push(move || {
            // Nobody is left to tell if it stays.
            let _ = rustix::fs::unlink(&path);
        });
        Ok(None)
    }
}

impl Location {
    /// Finds out where the file is.
    pub(crate) fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let key = format!("file[{:x}:{:x}]", probe.info.mount_id, probe.stat.st_ino);
        if cx.is_external(&key) {
            let (name, reach) = (PathBuf::from(key), Reach::External);
            return Ok(Self {
                name,
                reach,
                mode: None,
                size: None,
                seen: false,
                trigger: None,
                build_id: None,
            });
        }
        let (name, reach) = find::find(cx, probe)?;
        let flags = probe.flags();
        let only_appends =
            flags.contains(OFlags::APPEND) && flags & OFlags::ACCMODE == OFlags::WRONLY;
        let sized = probe.file_type() == FileType::RegularFile && !only_appends;
        let size = sized.then(|| u64::try_from(probe.stat.st_size).unwrap_or(0));
        let seen = find::tells_changes(probe) && !has_changed(probe)?;
        let trigger = Trigger::collect(probe)?;
        let is_named = matches!(reach, Reach::Name | Reach::OtherName { .. });
        let build_id = if is_named { noted_build_id(cx, probe)? } else { None };
        let mode = Some(probe.stat.st_mode);
        Ok(Self { name, reach, mode, size, seen, trigger, build_id })
    }

    /// Where a device is that the kernel names itself, and that is not looked
    /// for: it may have no name any more.
    pub(crate) fn of_device(probe: &Probe) -> Self {
        let name = find::without_suffix(&probe.link).to_owned();
        let mode = Some(probe.stat.st_mode);
        let (reach, size) = (Reach::Name, None);
        Self { name, reach, mode, size, seen: false, trigger: None, build_id: None }
    }

    /// `st_mode`, if it is known.
    pub(crate) fn mode(&self) -> Option<u32> {
        self.mode
    }

    /// Device and number of the inode that it was, if that has no name and is made anew.
    pub(crate) fn former_inode(&self) -> Option<(DeviceId, u64)> {
        match &self.reach {
            Reach::Ghost(ghost) => Some((ghost.inode.device, ghost.inode.number)),
            _ => None,
        }
    }

    /// Whether the file is about a task, which has to live to open it.
    pub(crate) fn is_about_task(&self) -> bool {
        matches!(self.reach, Reach::Task { .. })
    }

    /// When it can be opened.
    pub(crate) fn stage(&self) -> Stage {
        match &self.reach {
            Reach::Task { file, start: None } if file.is_about_part() => Stage::Installed,
            Reach::Task { .. } => Stage::Living,
            _ => Stage::Early,
        }
    }

    /// Whether it is about a task that is dead.
    pub(crate) fn is_about_dead(&self) -> bool {
        matches!(self.reach, Reach::DeadTask(_))
    }

    /// Whether it has to be read to be silent, as it tells of changes and has been.
    pub(crate) fn is_seen(&self) -> bool {
        self.seen
    }

    /// Has a new `file` tell of pressure as it did.
    pub(crate) fn watch_pressure(&self, file: BorrowedFd<'_>) -> Result<()> {
        self.trigger.map_or(Ok(()), |trigger| trigger.set(file, &self.name))
    }

    /// Writes the entry of the file, opened as `status` and at offset `pos`.
    pub(crate) fn encode(
        &self,
        id: FileId,
        status: &Status,
        pos: u64,
        images: &mut ImageSink<'_>,
    ) -> Result<()> {
        let Self { name, reach, mode, size, seen, trigger, build_id } = self;
        let (mut lost_name, mut proc_mount, mut task_start) = (None, None, None);
        let ghost = match reach {
            Reach::Name | Reach::External => None,
            Reach::OtherName { lost } => {
                lost_name = Some(lost.as_os_str().as_bytes().to_vec());
                None
            }
            Reach::Task { file, start } => {
                proc_mount = Some(file.mount.as_os_str().as_bytes().to_vec());
                task_start = *start;
                None
            }
            Reach::DeadTask(file) => {
                images.part::<RemapSink>().add(id, Remap::DeadProcess(file.task()));
                None
            }
            Reach::Ghost(ghost) => Some(ghost),
            Reach::Link(link) => {
                let ghost = link.make(images)?;
                if ghost.is_none() {
                    images.part::<RemapSink>().add(id, Remap::Link(link.entry));
                    let status = Status::plain(OFlags::empty());
                    put(images, link.entry, reg_entry(link.entry, &status, 0, &link.path));
                }
                ghost
            }
        };
        if let Some(ghost) = ghost {
            images.part::<RemapSink>().add(id, Remap::Ghost(ghost.id()));
            ghost.encode(images)?;
        }
        let entry = reg_entry(id, status, pos, name);
        let ext = matches!(reach, Reach::External).then_some(true);
        let (size, mode, seen) = (*size, *mode, seen.then_some(true));
        let pressure = trigger.map(|trigger| trigger.to_string());
        let build_id = build_id.clone().unwrap_or_default();
        let seen = RegFileEntry { seen, task_start, pressure, build_id, ..entry };
        let entry = RegFileEntry { size, mode, lost_name, proc_mount, ext, ..seen };
        put(images, id, entry);
        Ok(())
    }

    /// Reads an entry back: the location, how the file was opened, and its
    /// offset.
    pub(crate) fn decode(
        id: FileId,
        entry: &FileEntry,
        images: &mut ImageSource<'_>,
    ) -> Result<(Self, Status, u64)> {
        let wrong = |reason| corrupt(ImageName::Files, "file", id.as_raw(), reason);
        let Some(reg) = entry.reg.as_deref() else {
            return Err(wrong("it has no reg_file_entry"));
        };
        let RegFileEntry { id: own_id, flags, pos, fown, name, mnt_id, size, ext, mode, .. } = reg;
        let lost = match reg.lost_name.as_deref().map(path) {
            None => None,
            Some(Some(lost)) => Some(lost),
            Some(None) => return Err(wrong("the name it has lost is no absolute path")),
        };
        if *own_id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        let proc = reg.proc_mount.as_deref().map_or_else(|| Some(PROC.into()), path);
        let proc = proc.ok_or_else(|| wrong("where its proc is mounted is no absolute path"))?;
        let external = ext.unwrap_or(false);
        let name = match external {
            true => PathBuf::from(OsString::from_vec(name.clone())),
            false => path(name).ok_or_else(|| wrong("its name is no absolute path"))?,
        };
        let unsupported = |reason, hint| Error::Unsupported {
            object: "a file",
            detail: name.clone().into(),
            reason,
            hint,
        };
        if mnt_id.is_some_and(|mount| mount != -1) {
            return Err(unsupported(
                "it is in a mount namespace of its own, and those are not restored yet",
                "restore it with CRIU",
            ));
        }
        let status = Status::decode_with_any_access("file", id, *flags, fown)?;
        let reach = match images.part::<RemapSource>()?.take(id) {
            None if external => Reach::External,
            None => match (lost, TaskFile::parse(&proc, &name)) {
                (Some(lost), _) => Reach::OtherName { lost },
                // CRIU says of one file about a dead process that it is dead.
                (None, Some(file))
                    if reg.proc_mount.is_none()
                        && images.part::<RemapSource>()?.is_dead(file.process) =>
                {
                    Reach::DeadTask(file)
                }
                (None, Some(file)) => Reach::Task { file, start: reg.task_start },
                (None, None) => Reach::Name,
            },
            Some(Remap::Ghost(ghost)) => {
                let dir = images.dir();
                let ghost = images.part::<RemapSource>()?.ghost(ghost, dir)?;
                ghost.used_by(id, &name, status.open_flags());
                Reach::Ghost(ghost)
            }
            Some(Remap::Link(entry)) => {
                let link = images.share(entry);
                let path = link
                    .as_deref()
                    .and_then(|link| path(&link.reg.as_deref()?.name))
                    .ok_or_else(|| wrong("the link it is remapped to is not there"))?;
                // It goes when the restore is done: better not somebody's file.
                if !path.file_name().is_some_and(|name| name.as_bytes().starts_with(LINK)) {
                    return Err(wrong("the link it is remapped to is none that a dump makes"));
                }
                images.removes(path.clone());
                Reach::Link(Link { path, entry, origin: None, otherwise: None })
            }
            Some(Remap::DeadProcess(pid)) => {
                let file = TaskFile::parse(Path::new(PROC), &name);
                // CRIU names the process, even if the file is about a thread.
                let of = |file: &TaskFile| [file.task(), file.process].contains(&pid);
                let file = file.filter(of);
                Reach::DeadTask(file.ok_or_else(|| wrong("it is not about the task that is dead"))?)
            }
        };
        let seen = reg.seen.unwrap_or(false);
        let trigger = match reg.pressure.as_deref().map(Trigger::parse) {
            Some(None) => return Err(wrong("it watches no pressure there can be")),
            trigger => trigger.flatten(),
        };
        if reg.build_id.len() > build_id::MOST_WORDS {
            return Err(wrong("its build ID is longer than any"));
        }
        let build_id = Some(reg.build_id.clone()).filter(|id| !id.is_empty());
        let (mode, size) = (*mode, *size);
        Ok((Self { name, reach, mode, size, seen, trigger, build_id }, status, *pos))
    }
}

/// The build ID, if those are asked for and it has one.
fn noted_build_id(cx: &CollectCx<'_>, probe: &Probe) -> Result<Option<BuildId>> {
    let may_have = probe.file_type() == FileType::RegularFile && !find::is_pseudo(probe);
    if !cx.options.build_ids || !may_have {
        return Ok(None);
    }
    Ok(build_id::of(&probe.reopen_unseen()?.into()))
}

/// Whether it tells of a change now.
fn has_changed(probe: &Probe) -> Result<bool> {
    let file = probe.duplicate()?;
    let mut asked = [PollFd::new(&file, PollFlags::PRI)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&at_once)).map_err(Error::kernel("poll", &probe.link))?;
    Ok(asked[0].revents().contains(PollFlags::PRI))
}

fn reg_entry(id: FileId, status: &Status, pos: u64, name: &Path) -> RegFileEntry {
    let (flags, fown) = status.encode();
    RegFileEntry {
        id: id.as_raw(),
        flags,
        pos,
        fown,
        name: name.as_os_str().as_bytes().to_vec(),
        ..RegFileEntry::default()
    }
}

fn put(images: &mut ImageSink<'_>, id: FileId, entry: RegFileEntry) {
    let entry = FileEntry {
        kind: FdType::Reg.into(),
        id: id.as_raw(),
        reg: Some(Box::new(entry)),
        ..FileEntry::default()
    };
    images.put(id, entry);
}

/// An absolute path, as images have it.
fn path(name: &[u8]) -> Option<PathBuf> {
    let sound = name.starts_with(b"/") && !name.contains(&0);
    sound.then(|| PathBuf::from(OsString::from_vec(name.to_vec())))
}
