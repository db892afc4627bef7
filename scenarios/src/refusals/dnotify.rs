//! A directory that signals its changes (`F_NOTIFY`): the kernel does not tell which.
//!
//! Verified: the dump is refused, naming process, descriptor and kind; the target goes on, and is
//! signalled.
//! CRIU: the directory signals nothing any more.

use std::fs::{self, File};
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::at_42;
use crate::context::until;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused("directory that signals").missing(|| {
        let missing = !std::path::Path::new("/proc/sys/fs/dir-notify-enable").exists();
        missing.then(|| "the kernel has no F_NOTIFY".into())
    });

/// `include/uapi/linux/fcntl.h`
const DN_CREATE: u32 = 4;
const DN_MULTISHOT: u32 = 0x8000_0000;

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: i32) {
    SIGNALS.fetch_add(1, Ordering::SeqCst);
}

fn run(cx: &mut Context) {
    let dir = cx.path("watched");
    fs::create_dir(&dir).expect("mkdir");
    at_42(File::open(&dir).expect("open").into_raw_fd());
    // SAFETY: the handler only counts.
    unsafe { libc::signal(libc::SIGIO, count as *const () as usize) };
    let what = DN_CREATE | DN_MULTISHOT;
    // SAFETY: plain numbers.
    check_eq!(unsafe { libc::fcntl(42, libc::F_NOTIFY, what) }, 0, "F_NOTIFY");
    cx.ready_and_wait();
    fs::write(dir.join("new"), b"").expect("write");
    until("a signal", || SIGNALS.load(Ordering::SeqCst) > 0);
}
