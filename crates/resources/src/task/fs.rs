//! Working directory, root directory and umask.
//!
//! - Kernel object: `struct fs_struct`, shared under `CLONE_FS`
//! - Truth from: `/proc/PID/{cwd,root}`, `Umask:` of `/proc/PID/status`
//! - Image: `fs-PID.img`; of a thread with an `fs_struct` of its own,
//!   `fs-TID.img`. The directories are entries of `files.img`.

use dormouse_image::ImageName;
use dormouse_image::proto::fs::FsEntry;
use dormouse_puppet::{Arg, Batch};

use crate::Result;
use crate::corrupt::corrupt;
use crate::file::FileId;

/// What `struct fs_struct` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsState {
    /// The working directory.
    pub cwd: FileId,
    /// The root directory.
    pub root: FileId,
    /// Permission bits that new files do not get.
    pub umask: u32,
}

impl FsState {
    /// The entry of the task's fs image.
    #[must_use]
    pub fn encode(&self) -> FsEntry {
        let &Self { cwd, root, umask } = self;
        FsEntry { cwd_id: cwd.as_raw(), root_id: root.as_raw(), umask: Some(umask) }
    }

    /// Reads it back and judges it; `task` numbers the image.
    pub fn decode(task: u32, entry: &FsEntry) -> Result<Self> {
        let umask = entry.umask.unwrap_or(0o022);
        if umask & !0o777 != 0 {
            return Err(corrupt(ImageName::Fs(task), "umask", umask, "more than permission bits"));
        }
        Ok(Self {
            cwd: FileId::from_raw(entry.cwd_id),
            root: FileId::from_raw(entry.root_id),
            umask,
        })
    }

    /// Gives it to the task that runs the batch. `cwd` and `root` are
    /// descriptors in that task; `root` is absent if it is the root the task
    /// has already.
    pub fn apply(&self, batch: &mut Batch, cwd: Arg, root: Option<Arg>) {
        if let Some(root) = root {
            batch.call(libc::SYS_fchdir, [root]);
            let here = batch.data(b".\0");
            batch.call(libc::SYS_chroot, [here.into()]);
        }
        batch.call(libc::SYS_fchdir, [cwd]);
        batch.call(libc::SYS_umask, [self.umask.into()]);
    }
}
