//! Fanotifies.
//!
//! Kernel object: `struct fsnotify_group`: marks on inodes, mounts and file
//! systems, and the events that nobody has read. It has one open file
//! description.
//! Truth from: `/proc/PID/fdinfo`. Two things it does not tell show in calls
//! that fail in any case: whether answers may be audited (`FAN_ENABLE_AUDIT`),
//! in an answer to a request that does not exist; whether it was made without
//! privilege, in a mark on a path that does not exist.
//! Image: `fanotify_file_entry` in `files.img`.
//! Create: `fanotify_init(2)`, without `CAP_SYS_ADMIN` if it was made so.
//! Fill: what tells of lost events before epolls watch it, and the marks when
//! nothing else is left to do, as this process opens files too.
//! Not preserved: events that nobody has read. Nothing puts an event into the
//! queue but its happening, so the program is told by `FAN_Q_OVERFLOW` that
//! some are lost (`fanotify(7)`); those of the time between dump and restore.
//! Requests for permission that it has taken and not yet answered:
//! they are granted when it ends. Marks that hold nothing any more.
//! Refused: marks for permission, as all who open what is marked wait for a
//! program that stands still, and dormouse may be one of them; marks on mount
//! namespaces; events that nobody has read with `FAN_UNLIMITED_QUEUE`, as such a
//! queue never overflows and so cannot tell.
//! Kernel needed: `CAP_SYS_ADMIN`, and `CAP_DAC_READ_SEARCH` to open handles.
//! Scenarios: `files::fanotify*`.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::thread;

use dormouse_image::ImageName;
use dormouse_image::proto::files::fsnotify::{
    FanotifyFileEntry, FanotifyInodeMarkEntry, FanotifyMarkEntry, FanotifyMountMarkEntry, MarkType,
};
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_kernel::proc::{Extra, FanotifyMark, FanotifyObject, ProcDir};
use dormouse_kernel::{DeviceId, fanotify};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, mkdirat, open, openat, statx};
use rustix::io::{Errno, ioctl_fionread, write};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::watched::{FileSystems, Watched, own_path};
use super::{
    CollectCx, CreateCx, Created, FileId, FileKind, FileRef, FillCx, FillRank, ImageSink,
    ImageSource, Inode, Probe, Stage, Status, Use,
};
use crate::corrupt::corrupt;
use crate::error::Change;
use crate::{Error, Result};

/// A fanotify.
#[derive(Debug, PartialEq, Eq)]
pub struct Fanotify {
    status: Status,
    /// `FAN_*` of `fanotify_init(2)`.
    flags: u32,
    /// `O_*` of the descriptors that come with events.
    event_flags: u32,
    /// Who made it had no `CAP_SYS_ADMIN`, so it tells less.
    is_unprivileged: bool,
    /// The newest first.
    marks: Vec<Mark>,
    /// There were events that nobody had read, and the program can be told.
    has_lost: bool,
}

/// A mark.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    on: Object,
    /// `FAN_MARK_*` among [`MARK_FLAGS`].
    flags: u32,
    mask: u32,
    ignored_mask: u32,
}

/// What a mark is on.
#[derive(Debug, PartialEq, Eq)]
enum Object {
    Inode(Watched),
    /// The mount with this root, and its number when it was dumped.
    Mount(PathBuf, i32),
    /// The file system of this directory.
    FileSystem(PathBuf, DeviceId),
}

/// All flags of `fanotify_init(2)` that are known: what a group reports is made
/// up of them. Reports of mounts (`FAN_REPORT_MNT`) are not among them.
const FLAGS: u32 = 0x3fff;
/// Flags that `fdinfo` tells of marks.
const MARK_FLAGS: u32 =
    libc::FAN_MARK_IGNORED_SURV_MODIFY | libc::FAN_MARK_EVICTABLE | libc::FAN_MARK_IGNORE;
/// Any of these: events come without descriptors.
const REPORTS_IDS: u32 =
    libc::FAN_REPORT_FID | libc::FAN_REPORT_DFID_NAME | libc::FAN_REPORT_TARGET_FID;
/// Events that wait for an answer; the last is `FAN_PRE_ACCESS`.
const PERMISSION: u32 =
    (libc::FAN_OPEN_PERM | libc::FAN_ACCESS_PERM | libc::FAN_OPEN_EXEC_PERM) as u32 | 0x10_0000;
/// What `FIONREAD` counts for an event, in bytes.
const EVENT: u64 = 24;
/// How often the queue is filled further before it is looked at.
const AT_ONCE: usize = 1024;
/// Room for so many events that their descriptors are no burden, in bytes.
const EVENTS: usize = 4096;

fn refused<T>(detail: impl Into<OsString>, reason: &'static str, hint: &'static str) -> Result<T> {
    Err(Error::Unsupported { object: Fanotify::NAME, detail: detail.into(), reason, hint })
}

/// Who waits for an answer cannot be told apart from who is to be frozen.
fn refuse_permission<T>(detail: impl Into<OsString>) -> Result<T> {
    refused(
        detail,
        "it has marks for permission, and all who open what is marked wait for its answer",
        "take those marks off first (FAN_MARK_FLUSH), and set them again afterwards",
    )
}

impl Mark {
    fn collect(cx: &CollectCx<'_>, probe: &Probe, mark: &FanotifyMark) -> Result<Self> {
        let FanotifyMark { object, flags, mask, ignored_mask } = mark;
        let link = probe.link.display();
        if mask & PERMISSION != 0 {
            return refuse_permission(&probe.link);
        }
        let on = match object {
            FanotifyObject::Inode { inode, device, handle } => {
                let detail = format!("{link}, mark on inode {inode}");
                let handle = handle.as_ref();
                let named = (Fanotify::NAME, detail.as_str());
                Object::Inode(Watched::collect(cx, named, (*inode, *device), handle)?)
            }
            FanotifyObject::Mount(id) => {
                let mounts = ProcDir::of_self()?.mounts()?;
                let path = mounts.into_iter().find(|mount| mount.id == *id);
                let path = path.map(|mount| mount.mount_point);
                let Some(path) = path.filter(|path| mount_of(path).is_ok_and(|at| at == *id))
                else {
                    return refused(
                        format!("{link}, mark on mount {id}"),
                        "the mount cannot be found from here, or another covers it",
                        "run dormouse in the mount namespace of the program",
                    );
                };
                Object::Mount(path, *id)
            }
            FanotifyObject::FileSystem(device) => {
                let path = match cx.part::<FileSystems>().of(*device)? {
                    Some(root) => rustix::fs::readlink(own_path(root), Vec::new()).ok(),
                    None => None,
                };
                let Some(path) = path else {
                    return refused(
                        format!("{link}, mark on the file system {device}"),
                        "it is mounted nowhere that can be seen from here",
                        "run dormouse in the mount namespace of the program",
                    );
                };
                Object::FileSystem(OsString::from_vec(path.into_bytes()).into(), *device)
            }
            FanotifyObject::MountNamespace(_) => {
                return refused(
                    &probe.link,
                    "it has marks on mount namespaces, which are not saved",
                    "take those marks off first, and set them again afterwards",
                );
            }
        };
        Ok(Self { on, flags: *flags, mask: *mask, ignored_mask: *ignored_mask })
    }

    fn encode(&self, id: FileId) -> FanotifyMarkEntry {
        let Self { on, flags, mask, ignored_mask } = self;
        // CRIU's paths are relative to the root.
        let place = |path: &Path, mnt_id| {
            let path = path.strip_prefix("/").unwrap_or(path);
            FanotifyMountMarkEntry { mnt_id, path: Some(path.as_os_str().as_bytes().to_vec()) }
        };
        let (kind, s_dev, ie, me) = match on {
            Object::Inode(inode) => {
                let (i_ino, s_dev) = inode.number();
                let (f_handle, target) = inode.encode();
                let ie = FanotifyInodeMarkEntry { i_ino, f_handle, target };
                (MarkType::Inode, s_dev, Some(ie), None)
            }
            Object::Mount(path, id) => {
                (MarkType::Mount, 0, None, Some(place(path, id.cast_unsigned())))
            }
            Object::FileSystem(path, device) => {
                (MarkType::FileSystem, device.as_kernel(), None, Some(place(path, 0)))
            }
        };
        FanotifyMarkEntry {
            id: id.as_raw(),
            kind: kind.into(),
            mflags: *flags,
            mask: *mask,
            ignored_mask: *ignored_mask,
            s_dev,
            ie,
            me,
        }
    }

    fn decode(
        entry: &FanotifyMarkEntry,
        file_ref: impl FnOnce(u32) -> FileRef,
    ) -> Result<Self, &'static str> {
        let FanotifyMarkEntry { id: _, kind, mflags, mask, ignored_mask, s_dev, ie, me } = entry;
        let place = || {
            let me = me.as_ref().ok_or("a mark does not tell on which mount")?;
            let path = me.path.clone().ok_or("a mark does not tell the path of its mount")?;
            let id = me.mnt_id.cast_signed();
            Ok::<_, &'static str>((Path::new("/").join(OsString::from_vec(path)), id))
        };
        let on = match MarkType::try_from(*kind).map_err(|_| "a mark is on nothing known")? {
            MarkType::Inode => {
                let ie = ie.as_ref().ok_or("a mark does not tell on which inode")?;
                let target = ie.target.map(file_ref);
                Object::Inode(Watched::decode((ie.i_ino, *s_dev), &ie.f_handle, target)?)
            }
            MarkType::Mount => {
                let (path, id) = place()?;
                Object::Mount(path, id)
            }
            MarkType::FileSystem => {
                let (path, _) = place()?;
                Object::FileSystem(path, DeviceId::from_kernel(*s_dev))
            }
        };
        if mflags & !MARK_FLAGS != 0 {
            return Err("a mark has flags that cannot be");
        }
        if (mask, ignored_mask) == (&0, &0) {
            return Err("a mark is for no event");
        }
        Ok(Self { on, flags: *mflags, mask: *mask, ignored_mask: *ignored_mask })
    }

    /// Marks its object.
    fn set(
        &self,
        file: BorrowedFd<'_>,
        cx: &FillCx<'_>,
        file_systems: &mut FileSystems,
    ) -> Result<()> {
        let opened = |path: &Path, is_it: &dyn Fn(&Path) -> bool| {
            let missing = || Error::Changed { path: path.into(), change: Change::Missing };
            let file = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            file.ok().filter(|_| is_it(path)).ok_or_else(missing)
        };
        let (target, kind) = match &self.on {
            Object::Inode(inode) => {
                (inode.open(Fanotify::NAME, cx, file_systems)?, libc::FAN_MARK_INODE)
            }
            // It has another number by now if it was mounted again.
            Object::Mount(path, _) => (opened(path, &is_mount_point)?, libc::FAN_MARK_MOUNT),
            Object::FileSystem(path, _) => {
                (opened(path, &is_mount_point)?, libc::FAN_MARK_FILESYSTEM)
            }
        };
        let path = own_path(target.as_fd());
        let call = |flags, mask: u32| {
            fanotify::mark(file, flags | kind, mask.into(), &path)
                .map_err(Error::kernel("fanotify_mark", Fanotify::NAME))
        };
        let evictable = self.flags & libc::FAN_MARK_EVICTABLE;
        if self.mask != 0 {
            call(libc::FAN_MARK_ADD | evictable, self.mask)?;
        }
        let (ignore, survives) = if self.flags & libc::FAN_MARK_IGNORE != 0 {
            (libc::FAN_MARK_IGNORE, self.flags & libc::FAN_MARK_IGNORED_SURV_MODIFY)
        } else {
            (libc::FAN_MARK_IGNORED_MASK, self.flags & libc::FAN_MARK_IGNORED_SURV_MODIFY)
        };
        if self.ignored_mask != 0 {
            call(libc::FAN_MARK_ADD | evictable | ignore | survives, self.ignored_mask)?;
        } else if survives != 0 || ignore == libc::FAN_MARK_IGNORE {
            // The way it ignores is fixed by the first event it did ignore.
            let once = libc::FAN_OPEN as u32;
            call(libc::FAN_MARK_ADD | evictable | ignore | survives, once)?;
            call(libc::FAN_MARK_REMOVE | ignore, once)?;
        }
        Ok(())
    }
}

/// The number of the mount that is seen at a path.
fn mount_of(path: &Path) -> Result<i32> {
    let stat = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)
        .map_err(Error::kernel("statx", path))?;
    Ok(stat.stx_mnt_id as i32)
}

fn is_mount_point(path: &Path) -> bool {
    let Ok(id) = mount_of(path) else { return false };
    let mounts = ProcDir::of_self().and_then(|proc| proc.mounts());
    mounts.is_ok_and(|mounts| mounts.iter().any(|at| at.id == id && at.mount_point == path))
}

/// May its answers be audited? One to a request that does not exist has an
/// error of its own if they may not.
fn is_audited(file: BorrowedFd<'_>) -> bool {
    let mut answer = i32::MAX.to_ne_bytes().to_vec();
    answer.extend((libc::FAN_ALLOW | libc::FAN_AUDIT).to_ne_bytes());
    write(file, &answer) == Err(Errno::NOENT)
}

/// Was it made without privilege? Then it may mark no mounts, which is found
/// out before the path is looked at.
fn is_unprivileged(file: BorrowedFd<'_>) -> bool {
    let flags = libc::FAN_MARK_REMOVE | libc::FAN_MARK_MOUNT;
    fanotify::mark(file, flags, libc::FAN_OPEN, Path::new("")) == Err(Errno::PERM)
}

/// Makes a fanotify as a process without `CAP_SYS_ADMIN` does.
fn init_unprivileged(flags: u32, event_flags: u32) -> Result<OwnedFd, Errno> {
    // Capabilities are a thread's own.
    let thread = thread::scope(|scope| {
        let made = scope.spawn(|| {
            let mut sets = capabilities(None)?;
            sets.effective.remove(CapabilitySet::SYS_ADMIN);
            set_capabilities(None, sets)?;
            fanotify::init(flags, event_flags)
        });
        made.join()
    });
    thread.unwrap_or(Err(Errno::IO))
}

/// Makes the queue overflow, and takes out all but what tells so.
fn overflow(file: BorrowedFd<'_>, reports_ids: bool) -> Result<()> {
    let failed = |call| Error::kernel(call, Fanotify::NAME);
    let waiting = || ioctl_fionread(file).map_err(failed("FIONREAD"));
    // Events of one object are merged, so each is of another, on a file system
    // that nobody else sees.
    let system = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed("fsopen"))?;
    fsconfig_create(system.as_fd()).map_err(failed("fsconfig"))?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let dir = fsmount(system.as_fd(), flags, MountAttrFlags::empty()).map_err(failed("fsmount"))?;
    let root = own_path(dir.as_fd());
    let events = libc::FAN_OPEN | libc::FAN_ONDIR | libc::FAN_EVENT_ON_CHILD;
    fanotify::mark(file, libc::FAN_MARK_ADD, events, &root).map_err(failed("fanotify_mark"))?;
    let (mut before, mut names) = (None, 0u64..);
    // Until the queue takes no more.
    loop {
        let now = waiting()?;
        if before.replace(now) == Some(now) {
            break;
        }
        for name in names.by_ref().take(AT_ONCE) {
            let name = name.to_string();
            let flags = if reports_ids {
                mkdirat(&dir, &name, Mode::RWXU).map_err(failed("mkdir"))?;
                OFlags::RDONLY
            } else {
                OFlags::RDONLY | OFlags::CREATE
            };
            openat(&dir, &name, flags | OFlags::CLOEXEC, Mode::RWXU).map_err(failed("open"))?;
        }
    }
    fanotify::mark(file, libc::FAN_MARK_REMOVE, events, &root).map_err(failed("fanotify_mark"))?;
    let mut room = [0; EVENTS];
    let mut longest = EVENT as usize;
    loop {
        let others = (waiting()? / EVENT).saturating_sub(1);
        if others == 0 {
            return Ok(());
        }
        // None is shorter than what is counted for it, so the last stays.
        let most = usize::try_from(others * EVENT).unwrap_or(EVENTS);
        let most = most.max(longest).min(EVENTS);
        longest = longest.max(fanotify::discard(file, &mut room[..most]).map_err(failed("read"))?);
    }
}

impl FileKind for Fanotify {
    const NAME: &'static str = "fanotify";
    const TYPE: FdType = FdType::Fanotify;
    const RANKS: &'static [FillRank] = &[FillRank::Contents, FillRank::Arm];

    fn claims(probe: &Probe) -> bool {
        probe.anonymous_inode() == Some("fanotify")
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let status = Status::collect(cx, probe)?;
        let Extra::Fanotify { flags, event_flags, marks } = &probe.info.extra else {
            return refused(&probe.link, "the kernel does not tell its marks", "");
        };
        if flags & !FLAGS != 0 {
            return refused(
                &probe.link,
                "it reports what is not known here, such as mounts (FAN_REPORT_MNT)",
                "checkpoint the program while it has none open",
            );
        }
        let marks = marks.iter().filter(|mark| (mark.mask, mark.ignored_mask) != (0, 0));
        let marks = marks.map(|mark| Mark::collect(cx, probe, mark)).collect::<Result<_>>()?;
        let file = probe.duplicate()?;
        let unread = ioctl_fionread(&file).map_err(Error::kernel("FIONREAD", &probe.link))? > 0;
        if unread && flags & libc::FAN_UNLIMITED_QUEUE != 0 {
            return refused(
                &probe.link,
                "it has events that nobody has read, and its queue has no limit, so that it cannot \
                 be told that some are lost",
                "have the program read them first",
            );
        }
        let audit = if is_audited(file.as_fd()) { libc::FAN_ENABLE_AUDIT } else { 0 };
        Ok(Self {
            status,
            flags: flags | audit,
            event_flags: *event_flags,
            is_unprivileged: is_unprivileged(file.as_fd()),
            marks,
            has_lost: unread,
        })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { status, flags, event_flags, is_unprivileged, marks, has_lost } = self;
        let (status, fown) = status.encode();
        let ffy = FanotifyFileEntry {
            id: id.as_raw(),
            flags: status,
            fown,
            faflags: *flags,
            evflags: *event_flags,
            mark: marks.iter().map(|mark| mark.encode(id)).collect(),
            lost_events: has_lost.then_some(true),
            unprivileged: is_unprivileged.then_some(true),
        };
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            ffy: Some(Box::new(ffy)),
            ..FileEntry::default()
        };
        images.put(id, entry);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, images: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(ffy) = entry.ffy.as_deref() else {
            return Err(wrong("it has no fanotify_file_entry"));
        };
        let FanotifyFileEntry {
            id: own_id,
            flags: status,
            fown,
            faflags,
            evflags,
            mark,
            lost_events,
            unprivileged,
        } = ffy;
        if *own_id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        if faflags & !FLAGS != 0 {
            return Err(wrong("it has flags that cannot be"));
        }
        let has_lost = lost_events.unwrap_or(false);
        if has_lost && faflags & libc::FAN_UNLIMITED_QUEUE != 0 {
            return Err(wrong("a queue without a limit cannot overflow"));
        }
        let mut marks = Vec::new();
        for entry in mark {
            // CRIU saves them.
            if entry.mask & PERMISSION != 0 {
                return refuse_permission(format!("file {id} of the images"));
            }
            let place = (ImageName::Files, Self::NAME, u64::from(id.as_raw()));
            let file_ref = |target| images.file_ref(target, Use::Description, place);
            marks.push(Mark::decode(entry, file_ref).map_err(wrong)?);
        }
        Ok(Self {
            status: Status::decode(Self::NAME, id, *status, fown)?,
            flags: *faflags,
            event_flags: *evflags,
            is_unprivileged: unprivileged.unwrap_or(false),
            marks,
            has_lost,
        })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        Stage::Early
    }

    fn create(&self, _: FileId, _: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let init = if self.is_unprivileged { init_unprivileged } else { fanotify::init };
        let file = init(self.flags, self.event_flags)
            .map_err(Error::kernel("fanotify_init", Self::NAME))?;
        self.status.apply(Self::NAME, file.as_fd())?;
        Ok(file)
    }

    fn inode(&self) -> Option<&dyn Inode> {
        None
    }

    fn fill(rank: FillRank, files: &[Created<'_, Self>], cx: &FillCx<'_>) -> Result<()> {
        let mut file_systems = FileSystems::default();
        for Created { kind, file, .. } in files {
            if rank == FillRank::Arm {
                let mut marks = kind.marks.iter().rev();
                marks.try_for_each(|mark| mark.set(*file, cx, &mut file_systems))?;
            } else if kind.has_lost {
                overflow(*file, kind.flags & REPORTS_IDS != 0)?;
            }
        }
        Ok(())
    }
}
