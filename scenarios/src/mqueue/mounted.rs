//! A message queue opened in a mounted file system of queues, and that directory.
//!
//! Verified: the paths of both, flags, and that the queue is the one with this name.
//! CRIU: refuses it.

use std::ffi::CString;
use std::fs::{self, read_link};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Mode, OFlags, fcntl_getfl, fstat, open};

use crate::sys::{self, Queue, queue_name, unlink_queue};
use crate::{Context, Scenario, Users};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).missing(sys::no_queues);

fn run(cx: &mut Context) {
    let directory = cx.path("queues");
    fs::create_dir(&directory).expect("mkdir");
    let at = CString::new(directory.as_os_str().as_bytes()).expect("it has no zero byte");
    let (kind, none) = (c"mqueue".as_ptr(), std::ptr::null());
    // SAFETY: both names live over the call, and there is no data.
    let mounted = unsafe { libc::mount(kind, at.as_ptr(), kind, 0, none) };
    sys::done(mounted).expect("mount");
    let name = queue_name("mounted");
    let queue = Queue::create(&name, 0, (1, 8)).expect("mq_open");
    queue.send(b"message", 0).expect("mq_send");
    let path = directory.join(&name[1..]);
    let opened = |path, flags| open(path, flags, Mode::empty()).expect("open");
    let all: [OwnedFd; 3] = [
        opened(&path, OFlags::RDONLY | OFlags::NONBLOCK),
        opened(&path, OFlags::PATH),
        opened(&directory, OFlags::RDONLY | OFlags::DIRECTORY),
    ];
    let look = || {
        all.each_ref().map(|file| {
            let link = read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("readlink");
            (link, fcntl_getfl(file).expect("F_GETFL"), fstat(file).expect("fstat").st_ino)
        })
    };
    let before = look();

    cx.ready_and_wait();

    check_eq!(look(), before, "paths, flags and inodes");
    check_eq!(queue.receive().expect("mq_receive").0, b"message", "what was there");
    unlink_queue(&name).expect("mq_unlink");
}
