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
//! some are lost, which every program must expect (`inotify(7)`). Events of the
//! time between dump and restore. Without `CAP_BPF` and `CAP_PERFMON`, or without
//! type information, the number the next new watch will get, if the last ones
//! were removed: no call tells it, so it is read from the kernel's `struct
//! fsnotify_group`.
//! Kernel needed: `CAP_DAC_READ_SEARCH`, to open handles.
//! Scenarios: `files::inotify*`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use dormouse_image::ImageName;
use dormouse_image::proto::files::fsnotify::{InotifyFileEntry, InotifyWdEntry};
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_kernel::proc::{Extra, InotifyWatch};
use epoll_interest::kernel_memory::{Address, KernelMemory, OpenError, OpenFiles, ReadError};
use rustix::fs::{MemfdFlags, Mode, OFlags, inotify, memfd_create, open};
use rustix::io::{Errno, ioctl_fionread, read};

use super::watched::{self, FileSystems, Watched};
use super::{
    CollectCx, CreateCx, Created, FileId, FileKind, FileRef, FillCx, FillRank, ImageSink,
    ImageSource, Inode, Probe, Stage, Status, Use,
};
use crate::corrupt::corrupt;
use crate::{Error, Result};

/// An inotify.
#[derive(Debug, PartialEq, Eq)]
pub struct Inotify {
    status: Status,
    /// By their numbers.
    watches: BTreeMap<i32, Watch>,
    /// The number the next one gets, if it is known and not the one behind the last.
    next: Option<i32>,
    /// There were events that nobody had read.
    has_lost: bool,
}

/// A watch.
#[derive(Debug, PartialEq, Eq)]
struct Watch {
    on: Watched,
    /// `IN_*`.
    mask: u32,
}

/// The highest number that is made, as all below it are gone through.
const MAX_NUMBER: i32 = 1 << 20;
/// A mask that nothing matches: the kernel reports this by itself.
const IN_IGNORED: u32 = 0x8000;
/// Room for some events, in bytes.
const EVENTS: usize = 64 << 10;
/// An event without a name, in bytes.
const EVENT: u64 = 16;
/// How often the queue is filled further before it is looked at.
const AT_ONCE: usize = 1024;

fn too_high(detail: impl Into<OsString>) -> Error {
    Error::Unsupported {
        object: Inotify::NAME,
        detail: detail.into(),
        reason: "its watches have very high numbers",
        hint: "restart the program now and then",
    }
}

/// Reads which number the next watch gets.
struct Numbers {
    memory: KernelMemory,
    files: OpenFiles,
    /// From the beginning of a group, in bytes.
    next: usize,
}

impl Numbers {
    fn open() -> Result<Self, OpenError> {
        let (memory, (files, next)) = KernelMemory::open(|btf| {
            let (group, data) = btf.structure("fsnotify_group")?.member("inotify_data")?;
            let (numbers, idr) = data.member("idr")?;
            Ok((OpenFiles::new(btf)?, group + numbers + idr.offset("idr_next")?))
        })?;
        Ok(Self { memory, files, next })
    }

    fn next(&mut self, file: BorrowedFd<'_>) -> Result<i32, ReadError> {
        let group: Address = self.files.private_data(&mut self.memory, &[file])?[0];
        let bytes = self.memory.read(&[group + self.next as u64], 4)?;
        let next = bytes.first_chunk().copied().expect("a read gives all the bytes asked for");
        // Of one that has had none it is zero.
        Ok(i32::from_ne_bytes(next).max(1))
    }
}

/// That of a dump, or nothing where the kernel's structures cannot be read.
#[derive(Default)]
struct Collected(Option<Option<Numbers>>);

impl Watch {
    fn collect(cx: &CollectCx<'_>, probe: &Probe, watch: &InotifyWatch) -> Result<Self> {
        let InotifyWatch { watch: number, inode, device, mask, handle } = watch;
        let detail = format!("{}, watch {number} on inode {inode}", probe.link.display());
        if !(1..=MAX_NUMBER).contains(number) {
            return Err(too_high(detail));
        }
        let on =
            Watched::collect(cx, (Inotify::NAME, &detail), (*inode, *device), handle.as_ref())?;
        Ok(Self { on, mask: *mask })
    }

    fn encode(&self, id: FileId, number: i32) -> InotifyWdEntry {
        let Self { on, mask } = self;
        let (i_ino, s_dev) = on.number();
        let (f_handle, target) = on.encode();
        InotifyWdEntry {
            id: id.as_raw(),
            i_ino,
            mask: *mask,
            ignored_mask: 0,
            s_dev,
            wd: number.cast_unsigned(),
            f_handle,
            target,
        }
    }

    fn decode(
        entry: &InotifyWdEntry,
        file_ref: impl FnOnce(u32) -> FileRef,
    ) -> Result<(i32, Self), &'static str> {
        let InotifyWdEntry { id: _, i_ino, mask, ignored_mask: _, s_dev, wd, f_handle, target } =
            entry;
        let number = i32::try_from(*wd).ok().filter(|number| (1..=MAX_NUMBER).contains(number));
        let number = number.ok_or("a watch has a number that cannot be")?;
        let on = Watched::decode((*i_ino, *s_dev), f_handle, target.map(file_ref))?;
        Ok((number, Self { on, mask: *mask }))
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
        let placeholder = watched::own_path(unused_file.as_fd());
        let use_up = || {
            let unused = inotify::add_watch(file, &placeholder, inotify::WatchFlags::ATTRIB)
                .map_err(failed("inotify_add_watch"))?;
            inotify::remove_watch(file, unused).map_err(failed("inotify_rm_watch"))
        };
        let (mut next, mut targets) = (1, Vec::new());
        for (&number, watch) in &self.watches {
            for _ in next..number {
                use_up()?;
            }
            let target = watch.on.open(Self::NAME, cx, file_systems)?;
            // It asks for nothing, as what comes is taken out below.
            let nothing = inotify::WatchFlags::from_bits_retain(IN_IGNORED);
            let given = inotify::add_watch(file, watched::own_path(target.as_fd()), nothing)
                .map_err(failed("inotify_add_watch"))?;
            if given != number {
                return Err(failed("inotify_add_watch")(Errno::EXIST));
            }
            targets.push((target, watch.mask));
            next = number + 1;
        }
        // An overflow below takes one.
        for _ in next + i32::from(self.has_lost)..self.next.unwrap_or(next) {
            use_up()?;
        }
        // What was reported is of this restore's own making.
        take(file, u64::MAX)?;
        if self.has_lost {
            overflow(file, &placeholder)?;
        }
        for (target, mask) in targets {
            let mask = inotify::WatchFlags::from_bits_retain(mask);
            inotify::add_watch(file, watched::own_path(target.as_fd()), mask)
                .map_err(failed("inotify_add_watch"))?;
        }
        Ok(())
    }
}

/// The number behind the last watch.
fn behind(watches: &BTreeMap<i32, Watch>) -> i32 {
    watches.last_key_value().map_or(1, |(&last, _)| last + 1)
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
        let file = probe.duplicate()?;
        let unread = ioctl_fionread(&file);
        let has_lost = unread.map_err(Error::kernel("FIONREAD", &probe.link))? > 0;
        let listed = match &probe.info.extra {
            Extra::Inotify(watches) => watches.as_slice(),
            _ => &[],
        };
        let watches: BTreeMap<_, _> = listed
            .iter()
            .map(|watch| Ok((watch.watch, Watch::collect(cx, probe, watch)?)))
            .collect::<Result<_>>()?;
        let mut collected = cx.part::<Collected>();
        let numbers = collected.0.get_or_insert_with(|| Numbers::open().ok());
        let next = numbers.as_mut().and_then(|numbers| numbers.next(file.as_fd()).ok());
        let next = next.filter(|&next| next != behind(&watches));
        if next.is_some_and(|next| next > MAX_NUMBER) {
            return Err(too_high(&probe.link));
        }
        Ok(Self { status, watches, next, has_lost })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { status, watches, next, has_lost } = self;
        let (flags, fown) = status.encode();
        let ify = InotifyFileEntry {
            id: id.as_raw(),
            flags,
            fown,
            wd: watches.iter().map(|(&number, watch)| watch.encode(id, number)).collect(),
            lost_events: has_lost.then_some(true),
            next_wd: next.map(i32::cast_unsigned),
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
        let InotifyFileEntry { id: own_id, flags, fown, wd, lost_events, next_wd } = ify;
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
        let next = next_wd.map(|next| i32::try_from(next).ok());
        let next = match next {
            None => None,
            Some(Some(next)) if (behind(&watches)..=MAX_NUMBER).contains(&next) => Some(next),
            Some(_) => return Err(wrong("its next watch has a number that cannot be")),
        };
        Ok(Self { status, watches, next, has_lost: lost_events.unwrap_or(false) })
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
