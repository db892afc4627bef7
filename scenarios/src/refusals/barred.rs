//! Files that are made append-only or immutable while they are open.

use std::fs::File;
use std::ops::Deref;
use std::os::fd::{FromRawFd, IntoRawFd};

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

/// Why no file of the directory for temporary files can be made so.
pub(super) fn cannot_bar() -> Option<String> {
    let place = std::env::temp_dir().join(format!("barred.{}", std::process::id()));
    let file = File::create(&place).ok()?;
    // The state is in the same file system.
    let set = ioctl_getflags(&file)
        .and_then(|flags| ioctl_setflags(&file, flags | IFlags::APPEND).map(|()| flags));
    let set = set.and_then(|flags| ioctl_setflags(&file, flags));
    std::fs::remove_file(&place).ok();
    set.err().map(|error| format!("no file can be made append-only: {error}"))
}

/// Such a file, where the harness expects the refused object. It is a plain one again in the end, so
/// that it can be removed.
pub(super) struct File42 {
    file: File,
    flags: IFlags,
}

impl File42 {
    pub(super) fn bar(file: File, bar: IFlags) -> Self {
        super::at_42(file.into_raw_fd());
        // SAFETY: it was just put there, and nobody else closes it.
        let file = unsafe { File::from_raw_fd(42) };
        let flags = ioctl_getflags(&file).expect("FS_IOC_GETFLAGS");
        ioctl_setflags(&file, flags | bar).expect("FS_IOC_SETFLAGS");
        Self { file, flags }
    }
}

impl Deref for File42 {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for File42 {
    fn drop(&mut self) {
        ioctl_setflags(&self.file, self.flags).ok();
    }
}
