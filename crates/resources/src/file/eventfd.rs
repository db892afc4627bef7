//! Eventfds.
//!
//! Kernel object: `struct eventfd_ctx`. It has one open file description, as
//! it cannot be opened a second time.
//! Truth from: `/proc/PID/fdinfo`, or the structure itself (`kernel_files`); before 6.5, where that does not tell a semaphore
//! from a counter, `eventfd_ctx.flags` in the kernel's own memory.
//! Image: `eventfd_file_entry` in `files.img`. CRIU does not know semaphores;
//! those have a field of our own.
//! Create: `eventfd(2)`.
//! Fill: the counter, by writing it, as `eventfd(2)` takes but 32 bits.
//! Not preserved: nothing.
//! Kernel needed: any; before 6.5, one whose memory can be read (BPF, BTF).
//! Scenarios: `crates/resources/tests`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dormouse_image::ImageName;
use dormouse_image::proto::files::eventfd::EventfdFileEntry;
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_kernel::proc::Extra;
use epoll_interest::kernel_memory::{Btf, BtfError, KernelMemory, OpenFiles, ReadError};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::OFlags;

use super::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, ImageSink, ImageSource,
    Inode, Probe, Stage, Status,
};
use crate::corrupt::corrupt;
use crate::{Error, Result};

/// An eventfd.
#[derive(Debug, PartialEq, Eq)]
pub struct Eventfd {
    status: Status,
    count: u64,
    semaphore: bool,
}

/// The highest count there is.
const MAX_COUNT: u64 = u64::MAX - 1;

/// Reads the flags of eventfds where `fdinfo` does not show them.
#[derive(Default)]
struct Flags(Option<(KernelMemory, Layout)>);

/// Offsets in bytes.
#[derive(Clone, Copy)]
struct Layout {
    files: OpenFiles,
    flags: usize,
}

fn layout(btf: &Btf<'_>) -> Result<Layout, BtfError> {
    let flags = btf.structure("eventfd_ctx")?.offset("flags")?;
    Ok(Layout { files: OpenFiles::new(btf)?, flags })
}

impl Flags {
    /// `include/uapi/linux/eventfd.h`.
    const SEMAPHORE: u32 = 1;

    fn semaphore(&mut self, probe: &Probe) -> Result<bool> {
        let file = probe.duplicate()?;
        if self.0.is_none() {
            self.0 = KernelMemory::open(layout).ok();
        }
        let Some((memory, layout)) = &mut self.0 else { return Err(unknown(probe)) };
        let flags = flags(memory, *layout, file.as_fd()).map_err(|_| unknown(probe))?;
        Ok(flags & Self::SEMAPHORE != 0)
    }
}

fn unknown(probe: &Probe) -> Error {
    Error::Unsupported {
        object: "an eventfd",
        detail: probe.link.clone().into(),
        reason: "this kernel does not tell whether it is a semaphore",
        hint: "Linux 6.5 and later do; earlier ones let it be read with CAP_BPF and CAP_PERFMON",
    }
}

fn flags(
    memory: &mut KernelMemory,
    layout: Layout,
    file: BorrowedFd<'_>,
) -> Result<u32, ReadError> {
    let context = layout.files.private_data(memory, &[file])?[0];
    memory.word(context + layout.flags as u64).map(|word| word as u32)
}

impl FileKind for Eventfd {
    const NAME: &'static str = "eventfd";
    const TYPE: FdType = FdType::EventFd;
    const RANKS: &'static [FillRank] = &[FillRank::Contents];

    fn claims(probe: &Probe) -> bool {
        probe.anonymous_inode() == Some("eventfd")
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let status = Status::collect(cx, probe)?;
        let Extra::Eventfd { count, semaphore, .. } = probe.info.extra else {
            return Err(unknown(probe));
        };
        let semaphore = match semaphore {
            Some(told) => told,
            None => cx.part::<Flags>().semaphore(probe)?,
        };
        Ok(Self { status, count, semaphore })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { status, count, semaphore } = self;
        let (flags, fown) = status.encode();
        let efd = EventfdFileEntry {
            id: id.as_raw(),
            flags,
            fown,
            counter: *count,
            semaphore: semaphore.then_some(true),
        };
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            efd: Some(Box::new(efd)),
            ..FileEntry::default()
        };
        images.put(id, entry);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, _: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(efd) = entry.efd.as_deref() else {
            return Err(wrong("it has no eventfd_file_entry"));
        };
        let EventfdFileEntry { id: own_id, flags, fown, counter: count, semaphore } = efd;
        if *own_id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        if *count > MAX_COUNT {
            return Err(wrong("its counter is too high"));
        }
        let status = Status::decode(Self::NAME, id, *flags, fown)?;
        Ok(Self { status, count: *count, semaphore: semaphore.unwrap_or(false) })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        Stage::Early
    }

    fn create(&self, _: FileId, _: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let Self { status, count: _, semaphore } = self;
        let nonblocking = status.flags() & OFlags::NONBLOCK;
        let mut flags = EventfdFlags::CLOEXEC;
        flags.set(EventfdFlags::SEMAPHORE, *semaphore);
        flags.set(EventfdFlags::NONBLOCK, !nonblocking.is_empty());
        let file = eventfd(0, flags).map_err(Error::kernel("eventfd", Self::NAME))?;
        status.apply_over(nonblocking, Self::NAME, file.as_fd())?;
        Ok(file)
    }

    fn inode(&self) -> Option<&dyn Inode> {
        None
    }

    fn fill(_: FillRank, files: &[Created<'_, Self>], _: &FillCx<'_>) -> Result<()> {
        for Created { kind, file, .. } in files {
            // Adding nothing would not make it readable.
            if kind.count > 0 {
                rustix::io::write(file, &kind.count.to_ne_bytes())
                    .map_err(Error::kernel("write", Self::NAME))?;
            }
        }
        Ok(())
    }
}
