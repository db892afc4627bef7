//! Userfaultfds (`userfaultfd(2)`).
//!
//! Kernel object: `struct userfaultfd_ctx`: whose memory it is about, which features are in use; with the
//! mappings there, which of them are registered with it and for which faults.
//! Truth from: `/proc/PID/fdinfo` for the features; the kernel's own structures, by BPF, for whose memory it is;
//! `smaps` for what is registered, and `UFFDIO_REGISTER` for with which one: where a mapping is so already,
//! it changes nothing. Which pages are protected, or mapped, is from the pagemap (`memory::userfaults`).
//! Image: `userfaultfd_file_entry` in `files.img`, which only dormouse has.
//! Create: by a task that has the memory; by one that ends at once if nobody has it any more.
//! Registered: when the memory has its contents, and before it may have huge pages.
//! Fill: pages are protected, and mapped, when no task makes calls for dormouse any more.
//! Refused: one about memory that is not of the tree; memory registered with one that is not.
//! Not preserved: messages. A thread that waits for a page makes its access again after a dump, also if the
//! program goes on, as after any signal: so the handler gets another message, also for one that it has read
//! and not answered. Events that nobody has read, and faults within system calls, keep their threads from
//! being stopped: such a tree is refused, and goes on.
//! Kernel needed: 6.7; BTF and BPF (`CAP_BPF`, `CAP_PERFMON`) for the dump.
//! Scenarios: `memory::userfault*`, `files::userfaultfd`.

mod inside;
mod survey;

use std::os::fd::{AsFd, OwnedFd};

use dormouse_image::ImageName;
use dormouse_image::proto::files::userfaultfd::{RegisteredRangeEntry, UserfaultfdFileEntry};
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_kernel::pidfd::PidFd;
use dormouse_kernel::proc::Extra;
use dormouse_kernel::userfaultfd::{self, Modes, USER_MODE_ONLY};
use dormouse_kernel::{Addr, AddrRange, FdNum, NsPid};
use dormouse_puppet::{Bare, Batch};

use super::stand_in::StandIn;
use super::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, ImageSink, ImageSource,
    Inode, Probe, Stage, Status,
};
use crate::corrupt::corrupt;
use crate::userfault::Registered;
use crate::{Error, Result};
pub use survey::UserfaultSurvey;

/// What users and logs call it.
const NAME: &str = "userfaultfd";

/// A userfaultfd.
#[derive(Debug, PartialEq, Eq)]
pub struct Userfaultfd {
    status: Status,
    user_mode_only: bool,
    /// Once it is in use.
    features: Option<u64>,
    /// A task with the memory that it is about, if anybody has that.
    task: Option<NsPid>,
    ranges: Vec<Registered>,
}

/// Among its features as long as it is in use (`UFFD_FEATURE_INITIALIZED`).
const IN_USE: u32 = 1 << 31;

fn refused(probe: &Probe, (reason, hint): (&'static str, &'static str)) -> Error {
    let detail = probe.link.clone().into();
    Error::Unsupported { object: "a userfaultfd", detail, reason, hint }
}

impl FileKind for Userfaultfd {
    const NAME: &'static str = NAME;
    const TYPE: FdType = FdType::Userfaultfd;
    const RANKS: &'static [FillRank] = &[FillRank::Arm];

    fn claims(probe: &Probe) -> bool {
        probe.anonymous_inode() == Some(NAME) && !probe.is_path_only()
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let status = Status::collect(cx, probe)?;
        let file = probe.duplicate()?;
        let mut survey = cx.part::<UserfaultSurvey>();
        let found = survey.look(probe, file.as_fd())?;
        let Extra::Userfaultfd(info) = probe.info.extra else {
            let reason = "the kernel does not tell its features";
            return Err(refused(probe, (reason, "a newer version of dormouse may read them")));
        };
        let features = info.enabled_features;
        let features = (features & IN_USE != 0).then_some(u64::from(features & !IN_USE));
        let first = survey.first(&found).ok_or_else(|| {
            let reason = "it is about the memory of a process that is not part of the checkpoint";
            refused(probe, (reason, "checkpoint the tree that the process belongs to as well"))
        })?;
        let (task, ranges) = match first {
            None => (None, Vec::new()),
            Some(first) => {
                let own = if features.is_some() { survey.take(first, &file)? } else { Vec::new() };
                (NsPid::from_raw(first.as_raw()), own)
            }
        };
        let user_mode_only = found.flags & USER_MODE_ONLY != 0;
        Ok(Self { status, user_mode_only, features, task, ranges })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { status, user_mode_only, features, task, ranges } = self;
        let (flags, fown) = status.encode();
        let entry = UserfaultfdFileEntry {
            id: id.as_raw(),
            flags,
            fown,
            user_mode_only: *user_mode_only,
            features: *features,
            task: task.map(|task| task.as_raw().unsigned_abs()),
            ranges: ranges.iter().map(encode_range).collect(),
        };
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            userfaultfd: Some(Box::new(entry)),
            ..FileEntry::default()
        };
        images.put(id, entry);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, _: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(entry) = entry.userfaultfd.as_deref() else {
            return Err(wrong("it has no userfaultfd_file_entry"));
        };
        let UserfaultfdFileEntry { id: own_id, flags, fown, .. } = entry;
        let UserfaultfdFileEntry { user_mode_only, features, task, ranges, .. } = entry;
        if *own_id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        let status = Status::decode(Self::NAME, id, *flags, fown)?;
        if features.is_some_and(|features| features >= u64::from(IN_USE)) {
            return Err(wrong("it has features that cannot be"));
        }
        let task = match *task {
            None => None,
            Some(pid) => {
                let pid = i32::try_from(pid).ok().and_then(NsPid::from_raw);
                Some(pid.ok_or_else(|| wrong("its task is none"))?)
            }
        };
        let ranges = ranges.iter().map(decode_range).collect::<Option<Vec<_>>>();
        let ranges = ranges.ok_or_else(|| wrong("what is registered with it makes no sense"))?;
        if !ranges.is_sorted_by(|one, next| one.range.end() <= next.range.start()) {
            return Err(wrong("what is registered with it is in disorder"));
        }
        if !ranges.is_empty() && (features.is_none() || task.is_none()) {
            return Err(wrong("memory is registered with it, and it cannot be in use"));
        }
        let (user_mode_only, features) = (*user_mode_only, *features);
        Ok(Self { status, user_mode_only, features, task, ranges })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        if self.task.is_some() { Stage::Living } else { Stage::Early }
    }

    fn create(&self, id: FileId, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let file = match (cx.take_made(id), self.task) {
            (Some(made), _) => made,
            (None, None) => self.make(StandIn::new(None)?.bare()?)?,
            // It is this process's own.
            (None, Some(_)) => userfaultfd::create(self.flags()).map_err(failed(NAME))?,
        };
        self.status.apply(Self::NAME, file.as_fd())?;
        if let Some(features) = self.features {
            userfaultfd::begin(file.as_fd(), features).map_err(failed("UFFDIO_API"))?;
        }
        Ok(file)
    }

    fn inode(&self) -> Option<&dyn Inode> {
        None
    }

    fn fill(_: FillRank, files: &[Created<'_, Self>], _: &FillCx<'_>) -> Result<()> {
        for Created { kind, file, .. } in files {
            for Registered { protected, mapped, .. } in &kind.ranges {
                for &range in mapped {
                    userfaultfd::map(*file, range).map_err(failed("UFFDIO_CONTINUE"))?;
                }
                for &range in protected {
                    userfaultfd::protect(*file, range).map_err(failed("UFFDIO_WRITEPROTECT"))?;
                }
            }
        }
        Ok(())
    }
}

fn failed(call: &'static str) -> impl FnOnce(dormouse_kernel::Errno) -> Error {
    Error::kernel(call, NAME)
}

impl Userfaultfd {
    fn flags(&self) -> u32 {
        let only = if self.user_mode_only { USER_MODE_ONLY } else { 0 };
        only | rustix::fs::OFlags::CLOEXEC.bits()
    }

    /// The task that has to make it.
    pub(super) fn task(&self) -> Option<NsPid> {
        self.task
    }

    /// Has that task make it, which is a puppet with hardly a descriptor yet.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn make(&self, puppet: &mut Bare) -> Result<OwnedFd> {
        let mut batch = Batch::new();
        let fd = batch.call(libc::SYS_userfaultfd, [self.flags().into()]);
        let fd = puppet.run(batch)?.value(&fd) as u32;
        let task = puppet.tid();
        let pidfd = PidFd::open(task).or_else(|_| PidFd::open_thread(task))?;
        let file = pidfd.get_fd(FdNum::from_raw(fd))?;
        let mut batch = Batch::new();
        batch.call(libc::SYS_close, [fd.into()]);
        puppet.run(batch)?;
        Ok(file)
    }

    /// Has the faults reported that were.
    pub(super) fn register(&self, file: impl AsFd) -> Result<()> {
        self.ranges.iter().try_for_each(|registered| {
            userfaultfd::register(file.as_fd(), registered.range, registered.modes)
                .map_err(failed("UFFDIO_REGISTER"))
        })
    }
}

fn encode_range(registered: &Registered) -> RegisteredRangeEntry {
    let Registered { range, modes, protected, mapped } = registered;
    let ends = |range: &AddrRange| [range.start().as_raw(), range.end().as_raw()];
    RegisteredRangeEntry {
        start: range.start().as_raw(),
        end: range.end().as_raw(),
        modes: modes.bits(),
        protected: protected.iter().flat_map(ends).collect(),
        mapped: mapped.iter().flat_map(ends).collect(),
    }
}

fn decode_range(entry: &RegisteredRangeEntry) -> Option<Registered> {
    let RegisteredRangeEntry { start, end, modes, protected, mapped } = entry;
    let range = |start: u64, end: u64| {
        let (start, end) = (Addr::from_raw(start), Addr::from_raw(end));
        let whole = start.is_page_aligned() && end.is_page_aligned();
        AddrRange::new(start, end).filter(|range| whole && !range.is_empty())
    };
    let whole = range(*start, *end)?;
    let modes = Modes::from_bits(*modes).filter(|modes| !modes.is_empty())?;
    let runs = |ends: &[u64], mode| {
        let (pairs, rest) = ends.as_chunks::<2>();
        let runs = pairs.iter().map(|&[start, end]| {
            range(start, end).filter(|run| whole.start() <= run.start() && run.end() <= whole.end())
        });
        let runs = runs.collect::<Option<Vec<_>>>()?;
        let ascend = runs.is_sorted_by(|one, next| one.end() <= next.start());
        let fit = rest.is_empty() && ascend && (runs.is_empty() || modes.contains(mode));
        fit.then_some(runs)
    };
    let protected = runs(protected, Modes::WRITE_PROTECTED)?;
    let mapped = runs(mapped, Modes::MINOR)?;
    Some(Registered { range: whole, modes, protected, mapped })
}
