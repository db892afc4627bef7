//! Inotifies.
//!
//! Kernel object: `struct fsnotify_group`: watches, each on an inode, and the
//! events that nobody has read. It has one open file description.
//! Truth from: `/proc/PID/fdinfo`, which names inodes by file handle; the path
//! is asked of the inode.
//! Image: `inotify_file_entry` in `files.img`.
//! Create: `inotify_init1(2)`.
//! Fill: the watches, by path or else by handle, in the order of their
//! numbers; one on a deleted file by a descriptor that has it open. The kernel
//! hands numbers out one after the other, so those between are used and given
//! back, and what that reports is taken out again.
//! Not preserved: events that nobody has read. Nothing puts an event into the
//! queue but its happening, so the program is told by `IN_Q_OVERFLOW` that
//! some are lost, which every program must expect (`inotify(7)`). The number
//! the next new watch will get, if the last ones were removed; events of the
//! time between dump and restore.
//! Kernel needed: `CAP_DAC_READ_SEARCH`, to open handles.
//! Scenarios: `files::inotify*`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use dormouse_image::ImageName;
use dormouse_image::proto::files::fsnotify::{FhEntry, InotifyFileEntry, InotifyWdEntry};
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_kernel::DeviceId;
use dormouse_kernel::handle::open_by_handle;
use dormouse_kernel::proc::{Extra, FileHandle, InotifyWatch, ProcDir};
use rustix::fs::{
    MemfdFlags, Mode, OFlags, Stat, fstat, inotify, lstat, memfd_create, open, readlink,
};
use rustix::io::{Errno, fcntl_dupfd_cloexec, ioctl_fionread, read};

use super::{
    CollectCx, CreateCx, Created, FileId, FileKind, FileRef, FillCx, FillRank, ImageSink,
    ImageSource, Inode, Probe, Stage, Status, Use,
};
use crate::corrupt::corrupt;
use crate::error::Change;
use crate::{Error, Result};

/// An inotify.
#[derive(Debug, PartialEq, Eq)]
pub struct Inotify {
    status: Status,
    /// By their numbers.
    watches: BTreeMap<i32, Watch>,
    /// There were events that nobody had read.
    has_lost: bool,
}

/// A watch.
#[derive(Debug, PartialEq, Eq)]
struct Watch {
    inode: u64,
    device: DeviceId,
    /// `IN_*`.
    mask: u32,
    handle: FileHandle,
    place: Place,
}

/// How to find an inode besides by its handle.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// There.
    Path(PathBuf),
    /// It was deleted, and this has it open.
    Open(FileRef),
    /// Not at all.
    Unknown,
}

/// The highest number that is made, as all below it are gone through.
const MAX_NUMBER: i32 = 1 << 20;
/// Bytes of a handle in the image (`FhEntry`).
const HANDLE_WORDS: usize = 16;
/// A mask that nothing matches: the kernel reports this by itself.
const IN_IGNORED: u32 = 0x8000;
/// Room for some events, in bytes.
const EVENTS: usize = 64 << 10;
/// An event without a name, in bytes.
const EVENT: u64 = 16;
/// How often the queue is filled further before it is looked at.
const AT_ONCE: usize = 1024;

/// What it takes to find inodes.
#[derive(Debug, Default)]
struct FileSystems {
    /// A directory on each file system, from which its handles are opened.
    roots: BTreeMap<u32, Option<OwnedFd>>,
    /// Open files of the tree by device and inode, once one was asked for.
    open: Option<BTreeMap<(u64, u64), FileId>>,
}

impl FileSystems {
    fn of(&mut self, device: DeviceId) -> Result<Option<BorrowedFd<'_>>> {
        let key = device.as_kernel();
        if let Entry::Vacant(place) = self.roots.entry(key) {
            let mounts = ProcDir::of_self()?.mounts()?;
            let on_it = mounts.iter().filter(|mount| mount.device == device);
            // Another mount may cover it.
            let is_it = |root: &OwnedFd| {
                fstat(root).is_ok_and(|stat| DeviceId::from_stat(stat.st_dev) == device)
            };
            let mut roots = on_it.filter_map(|mount| root(&mount.mount_point));
            place.insert(roots.find(is_it));
        }
        Ok(self.roots[&key].as_ref().map(AsFd::as_fd))
    }

    fn open(&mut self, device: DeviceId, handle: &FileHandle) -> Result<Option<OwnedFd>> {
        let Some(file_system) = self.of(device)? else { return Ok(None) };
        Ok(open_by_handle(file_system, handle, OFlags::PATH | OFlags::NOFOLLOW).ok())
    }

    /// Who has this inode open.
    fn holder(&mut self, cx: &CollectCx<'_>, stat: &Stat) -> Option<FileRef> {
        let open = self.open.get_or_insert_with(|| {
            let descriptions = cx.probes.values().filter(|probe| probe.has_description());
            descriptions.map(|probe| ((probe.stat.st_dev, probe.stat.st_ino), probe.id)).collect()
        });
        open.get(&(stat.st_dev, stat.st_ino)).copied().map(FileRef)
    }
}

fn root(path: &Path) -> Option<OwnedFd> {
    open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

fn own_path(file: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

fn collect(cx: &CollectCx<'_>, probe: &Probe, watch: &InotifyWatch) -> Result<Watch> {
    let InotifyWatch { watch: number, inode, device, mask, handle } = watch;
    let refuse = |reason, hint| {
        let detail = format!("{}, watch {number} on inode {inode}", probe.link.display()).into();
        Err(Error::Unsupported { object: "an inotify", detail, reason, hint })
    };
    if !(1..=MAX_NUMBER).contains(number) {
        return refuse("its watches have very high numbers", "restart the program now and then");
    }
    let Some(handle) = handle.clone().filter(|handle| handle.bytes.len() <= HANDLE_WORDS * 8)
    else {
        return refuse(
            "its file system tells no way to find what is watched",
            "watch files of another file system",
        );
    };
    let Some(file) = cx.part::<FileSystems>().open(*device, &handle)? else {
        return refuse(
            "what it watches cannot be found from here",
            "run dormouse in the mount namespace of the program",
        );
    };
    let asked = |call| Error::kernel(call, &probe.link);
    let stat = fstat(&file).map_err(asked("fstat"))?;
    let place = if stat.st_nlink == 0 {
        let Some(holder) = cx.part::<FileSystems>().holder(cx, &stat) else {
            return refuse(
                "what it watches has been deleted, and no process of the tree has it open",
                "checkpoint the tree together with the process that has it open",
            );
        };
        Place::Open(holder)
    } else {
        let link = readlink(own_path(file.as_fd()), Vec::new()).map_err(asked("readlink"))?;
        let path = PathBuf::from(OsString::from_vec(link.into_bytes()));
        let is_there =
            lstat(&path).is_ok_and(|at| (at.st_dev, at.st_ino) == (stat.st_dev, stat.st_ino));
        if is_there { Place::Path(path) } else { Place::Unknown }
    };
    Ok(Watch { inode: *inode, device: *device, mask: *mask, handle, place })
}

impl Watch {
    fn encode(&self, id: FileId, number: i32) -> InotifyWdEntry {
        let Self { inode, device, mask, handle, place } = self;
        let (path, target) = match place {
            Place::Path(path) => (Some(path.as_os_str().as_bytes().to_vec()), None),
            Place::Open(file) => (None, Some(file.id().as_raw())),
            Place::Unknown => (None, None),
        };
        let mut words = [0; HANDLE_WORDS];
        for (word, bytes) in words.iter_mut().zip(handle.bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(whole);
        }
        InotifyWdEntry {
            id: id.as_raw(),
            i_ino: *inode,
            mask: *mask,
            ignored_mask: 0,
            s_dev: device.as_kernel(),
            wd: number.cast_unsigned(),
            f_handle: FhEntry {
                // Longer ones were refused.
                bytes: handle.bytes.len() as u32,
                kind: handle.kind.cast_unsigned(),
                handle: words.to_vec(),
                path,
                mnt_id: None,
            },
            target,
        }
    }

    fn decode(
        entry: &InotifyWdEntry,
        file_ref: impl FnOnce(u32) -> FileRef,
    ) -> Result<(i32, Self), &'static str> {
        let InotifyWdEntry { id: _, i_ino, mask, ignored_mask: _, s_dev, wd, f_handle, target } =
            entry;
        let FhEntry { bytes, kind, handle, path, mnt_id: _ } = f_handle;
        let number = i32::try_from(*wd).ok().filter(|number| (1..=MAX_NUMBER).contains(number));
        let number = number.ok_or("a watch has a number that cannot be")?;
        let all: Vec<u8> = handle.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let bytes = all.get(..*bytes as usize).ok_or("a handle is shorter than it says")?;
        if bytes.len() > HANDLE_WORDS * 8 {
            return Err("a handle is too long");
        }
        let place = match (target, path) {
            (Some(target), _) => Place::Open(file_ref(*target)),
            // CRIU's are relative to the root.
            (None, Some(path)) => {
                Place::Path(Path::new("/").join(OsString::from_vec(path.clone())))
            }
            (None, None) => Place::Unknown,
        };
        let watch = Self {
            inode: *i_ino,
            device: DeviceId::from_kernel(*s_dev),
            mask: *mask,
            handle: FileHandle { kind: kind.cast_signed(), bytes: bytes.into() },
            place,
        };
        Ok((number, watch))
    }

    fn open(&self, cx: &FillCx<'_>, file_systems: &mut FileSystems) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match &self.place {
            Place::Open(file) => {
                return fcntl_dupfd_cloexec(cx.file(*file), 0)
                    .map_err(Error::kernel("dup", Inotify::NAME));
            }
            Place::Path(path) => open(path, flags, Mode::empty()).ok(),
            Place::Unknown => None,
        };
        let found = match found {
            Some(file) => Some(file),
            None => file_systems.open(self.device, &self.handle)?,
        };
        found.ok_or_else(|| {
            let path = match &self.place {
                Place::Path(path) => path.clone(),
                _ => format!("inode {} of device {}", self.inode, self.device).into(),
            };
            Error::Changed { path, change: Change::Missing }
        })
    }
}

impl Inotify {
    fn watch(
        &self,
        file: BorrowedFd<'_>,
        cx: &FillCx<'_>,
        file_systems: &mut FileSystems,
    ) -> Result<()> {
        let failed = |call| Error::kernel(call, Self::NAME);
        let unused_file =
            memfd_create("inotify", MemfdFlags::CLOEXEC).map_err(failed("memfd_create"))?;
        let placeholder = own_path(unused_file.as_fd());
        let (mut next, mut targets) = (1, Vec::new());
        for (&number, watch) in &self.watches {
            for _ in next..number {
                let unused = inotify::add_watch(file, &placeholder, inotify::WatchFlags::ATTRIB)
                    .map_err(failed("inotify_add_watch"))?;
                inotify::remove_watch(file, unused).map_err(failed("inotify_rm_watch"))?;
            }
            let target = watch.open(cx, file_systems)?;
            // It asks for nothing, as what comes is taken out below.
            let nothing = inotify::WatchFlags::from_bits_retain(IN_IGNORED);
            let given = inotify::add_watch(file, own_path(target.as_fd()), nothing)
                .map_err(failed("inotify_add_watch"))?;
            if given != number {
                return Err(failed("inotify_add_watch")(Errno::EXIST));
            }
            targets.push((target, watch.mask));
            next = number + 1;
        }
        // What was reported is of this restore's own making.
        take(file, u64::MAX)?;
        if self.has_lost {
            overflow(file, &placeholder)?;
        }
        for (target, mask) in targets {
            let mask = inotify::WatchFlags::from_bits_retain(mask);
            inotify::add_watch(file, own_path(target.as_fd()), mask)
                .map_err(failed("inotify_add_watch"))?;
        }
        Ok(())
    }
}

/// Takes so many bytes of events out, or all there are.
fn take(file: BorrowedFd<'_>, mut bytes: u64) -> Result<()> {
    let failed = |call| Error::kernel(call, Inotify::NAME);
    let mut room = vec![0; EVENTS];
    while bytes > 0 && ioctl_fionread(file).map_err(failed("FIONREAD"))? > 0 {
        let most = usize::try_from(bytes).unwrap_or(EVENTS).min(EVENTS);
        bytes -= read(file, &mut room[..most]).map_err(failed("read"))? as u64;
    }
    Ok(())
}

/// Makes the queue overflow and takes out all but what tells so.
fn overflow(file: BorrowedFd<'_>, placeholder: &Path) -> Result<()> {
    let failed = |call| Error::kernel(call, Inotify::NAME);
    let events = inotify::WatchFlags::OPEN | inotify::WatchFlags::CLOSE;
    let unused = inotify::add_watch(file, placeholder, events);
    let unused = unused.map_err(failed("inotify_add_watch"))?;
    let mut before = None;
    // Until the queue takes no more.
    loop {
        let waiting = ioctl_fionread(file).map_err(failed("FIONREAD"))?;
        if before.replace(waiting) == Some(waiting) {
            break;
        }
        for _ in 0..AT_ONCE {
            // Its opening and its closing.
            drop(open(placeholder, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()));
        }
    }
    inotify::remove_watch(file, unused).map_err(failed("inotify_rm_watch"))?;
    let waiting = ioctl_fionread(file).map_err(failed("FIONREAD"))?;
    take(file, waiting.saturating_sub(EVENT))
}

impl FileKind for Inotify {
    const NAME: &'static str = "inotify";
    const TYPE: FdType = FdType::Inotify;
    const RANKS: &'static [FillRank] = &[FillRank::Contents];

    fn claims(probe: &Probe) -> bool {
        probe.anonymous_inode() == Some("inotify")
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let status = Status::collect(cx, probe)?;
        let unread = ioctl_fionread(probe.duplicate()?);
        let has_lost = unread.map_err(Error::kernel("FIONREAD", &probe.link))? > 0;
        let listed = match &probe.info.extra {
            Extra::Inotify(watches) => watches.as_slice(),
            _ => &[],
        };
        let watches = listed
            .iter()
            .map(|watch| Ok((watch.watch, collect(cx, probe, watch)?)))
            .collect::<Result<_>>()?;
        Ok(Self { status, watches, has_lost })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { status, watches, has_lost } = self;
        let (flags, fown) = status.encode();
        let ify = InotifyFileEntry {
            id: id.as_raw(),
            flags,
            fown,
            wd: watches.iter().map(|(&number, watch)| watch.encode(id, number)).collect(),
            lost_events: has_lost.then_some(true),
        };
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            ify: Some(Box::new(ify)),
            ..FileEntry::default()
        };
        images.put(id, entry);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, images: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(ify) = entry.ify.as_deref() else {
            return Err(wrong("it has no inotify_file_entry"));
        };
        let InotifyFileEntry { id: own_id, flags, fown, wd, lost_events } = ify;
        if *own_id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        let mut watches = BTreeMap::new();
        for entry in wd {
            let place = (ImageName::Files, Self::NAME, u64::from(id.as_raw()));
            let file_ref = |target| images.file_ref(target, Use::Description, place);
            let (number, watch) = Watch::decode(entry, file_ref).map_err(wrong)?;
            if watches.insert(number, watch).is_some() {
                return Err(wrong("it has two watches of one number"));
            }
        }
        let status = Status::decode(Self::NAME, id, *flags, fown)?;
        Ok(Self { status, watches, has_lost: lost_events.unwrap_or(false) })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        Stage::Early
    }

    fn create(&self, _: FileId, _: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let file = inotify::init(inotify::CreateFlags::CLOEXEC)
            .map_err(Error::kernel("inotify_init1", Self::NAME))?;
        self.status.apply(Self::NAME, file.as_fd())?;
        Ok(file)
    }

    fn inode(&self) -> Option<&dyn Inode> {
        None
    }

    fn fill(_: FillRank, files: &[Created<'_, Self>], cx: &FillCx<'_>) -> Result<()> {
        let mut file_systems = FileSystems::default();
        for Created { kind, file, .. } in files {
            kind.watch(*file, cx, &mut file_systems)?;
        }
        Ok(())
    }
}
