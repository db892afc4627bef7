//! Files that are registered with a ring: places that requests can name in place of descriptors, and an
//! eventfd that counts completions.
//!
//! Truth from: `struct io_rsrc_data` of `io_ring_ctx.file_table`, `struct io_ev_fd`.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use dormouse_image::proto::files::io_uring::{IoUringPlaceEntry, IoUringRegisteredEntry};
use dormouse_kernel::NsPid;
use dormouse_puppet::Batch;

use super::RingTasks;
use crate::Result;
use crate::file::{CreatedFiles, FileRef};

/// What is registered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Registered {
    /// Who registers it.
    pub(super) task: NsPid,
    /// How many places there are.
    pub(super) len: u32,
    /// Those that are taken.
    pub(super) files: BTreeMap<u32, FileRef>,
    /// The eventfd, and whether it counts only what does not complete at once.
    pub(super) event: Option<(FileRef, bool)>,
}

/// The most places that are kept: fewer than a process may have files open.
pub(super) const MOST: u32 = 1 << 14;
/// How many are filled at a time.
const AT_ONCE: usize = 256;
/// `IORING_REGISTER_EVENTFD` and `IORING_REGISTER_EVENTFD_ASYNC`.
const EVENTFD: u32 = 4;
const EVENTFD_LATE: u32 = 7;
/// `IORING_REGISTER_FILES_UPDATE`, `IORING_REGISTER_FILES2` and `IORING_RSRC_REGISTER_SPARSE`.
const UPDATE: u32 = 6;
const REGISTER: u32 = 13;
const SPARSE: u32 = 1;
/// `struct io_uring_rsrc_register` and `struct io_uring_rsrc_update`, in bytes.
const REGISTER_LEN: u32 = 32;
const UPDATE_LEN: usize = 16;

impl Registered {
    pub(super) fn encode(&self) -> IoUringRegisteredEntry {
        let Self { task, len, files, event } = self;
        let place =
            |(&place, file): (&u32, &FileRef)| IoUringPlaceEntry { place, file: file.0.as_raw() };
        IoUringRegisteredEntry {
            task: task.as_raw().unsigned_abs(),
            len: *len,
            files: files.iter().map(place).collect(),
            eventfd: event.map(|(file, _)| file.0.as_raw()),
            late: event.map(|(_, late)| late),
        }
    }

    /// `None`: it makes no sense. `refer` gives a file.
    pub(super) fn decode(
        entry: &IoUringRegisteredEntry,
        mut refer: impl FnMut(u32) -> FileRef,
    ) -> Option<Self> {
        let IoUringRegisteredEntry { task, len, files, eventfd, late } = entry;
        let task = i32::try_from(*task).ok().and_then(NsPid::from_raw)?;
        let mut places = BTreeMap::new();
        for &IoUringPlaceEntry { place, file } in files {
            if place >= *len || places.insert(place, refer(file)).is_some() {
                return None;
            }
        }
        let event = eventfd.map(|file| (refer(file), *late == Some(true)));
        let least = u32::from(event.is_none());
        (least..=MOST).contains(len).then_some(Self { task, len: *len, files: places, event })
    }

    /// Registers it with a ring.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn register(
        &self,
        ring: BorrowedFd<'_>,
        created: &CreatedFiles<'_>,
        tasks: &mut dyn RingTasks,
    ) -> Result<()> {
        let mut batch = Batch::new();
        let own = tasks.fetch(&mut batch, ring);
        if self.len > 0 {
            let mut sparse = [0; REGISTER_LEN as usize];
            sparse[..4].copy_from_slice(&self.len.to_ne_bytes());
            sparse[4..8].copy_from_slice(&SPARSE.to_ne_bytes());
            let sparse = batch.data(&sparse);
            let args = [(&own).into(), REGISTER.into(), sparse.into(), REGISTER_LEN.into()];
            batch.call(libc::SYS_io_uring_register, args);
        }
        let own = tasks.puppet(self.task).run(batch)?.value(&own);
        let files: Vec<_> = self.files.iter().collect();
        for some in files.chunks(AT_ONCE) {
            let mut batch = Batch::new();
            let fetched: Vec<_> =
                some.iter().map(|&(_, &file)| tasks.fetch(&mut batch, created.get(file))).collect();
            let replies = tasks.puppet(self.task).run(batch)?;
            let mut batch = Batch::new();
            for ((place, _), fd) in some.iter().zip(&fetched) {
                let fd = replies.value(fd) as u32;
                let from = batch.data(&fd.to_ne_bytes());
                let mut update = [0; UPDATE_LEN];
                update[..4].copy_from_slice(&place.to_ne_bytes());
                let update = batch.data(&update);
                batch.point(update, 8, from);
                let args = [own.into(), UPDATE.into(), update.into(), 1.into()];
                batch.call(libc::SYS_io_uring_register, args);
                batch.call(libc::SYS_close, [fd.into()]);
            }
            tasks.puppet(self.task).run(batch)?;
        }
        if let Some((eventfd, late)) = self.event {
            let mut batch = Batch::new();
            let fd = tasks.fetch(&mut batch, created.get(eventfd));
            let fd = tasks.puppet(self.task).run(batch)?.value(&fd) as u32;
            let mut batch = Batch::new();
            let from = batch.data(&fd.to_ne_bytes());
            let how = if late { EVENTFD_LATE } else { EVENTFD };
            let args = [own.into(), how.into(), from.into(), 1.into()];
            batch.call(libc::SYS_io_uring_register, args);
            batch.call(libc::SYS_close, [fd.into()]);
            tasks.puppet(self.task).run(batch)?;
        }
        let mut batch = Batch::new();
        batch.call(libc::SYS_close, [own.into()]);
        tasks.puppet(self.task).run(batch)?;
        Ok(())
    }
}
