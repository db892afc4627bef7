//! `open` of a fifo for reading, which waits for a writer.
//!
//! Verified: it stays blocked until there is one, and then returns a descriptor; blocked signals are as before.
//! CRIU: works.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{CWD, Mode, mkfifoat};

use super::blocking::{outcome, until_woken};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let path = cx.path("fifo");
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).expect("mkfifo");
    let name = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
    let wait = move || {
        // SAFETY: the name lives over the call.
        outcome(unsafe {
            libc::syscall(libc::SYS_openat, libc::AT_FDCWD, name.as_ptr(), libc::O_RDONLY)
        })
        .map(|fd| fd > 2)
    };
    until_woken(cx, libc::SYS_openat, &Ok(true), wait, |_| {
        check!(std::fs::File::options().write(true).open(&path).is_ok(), "opening for writing");
    });
}
