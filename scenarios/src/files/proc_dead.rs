//! Files and directories of `/proc` about a process and a thread that are dead, two about one
//! task.
//!
//! Verified: that they tell nothing, and are about nobody who lives; names and places.
//! CRIU: notes a dead process once, however many files are about it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::proc::{name, of_path};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .faults()
    .differs(&[("*/fd/*/link", "the name of a dead thread is that of a process")]);

fn read(file: &mut File) -> Option<i32> {
    file.read(&mut [0; 8]).err()?.raw_os_error()
}

/// As fdinfo has it: the kernel does not let it be asked for.
fn place(file: &File) -> String {
    let path = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
    let text = std::fs::read_to_string(path).expect("fdinfo");
    text.lines().find_map(|line| line.strip_prefix("pos:")).expect("a place").trim().to_owned()
}

fn run(cx: &mut Context) {
    let child = cx.fork(|cx| {
        cx.arrive(sys::gettid());
        loop {
            sys::nap(std::time::Duration::from_secs(1));
        }
    });
    cx.await_arrival(child);
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let (thread, tid) = cx.thread(move |cx| {
        cx.arrive(sys::gettid());
        let _ = wait.recv();
    });
    let below = |name: &str| format!("/proc/{child}/{name}");
    let mut files = [below("stat"), below("status"), format!("/proc/self/task/{tid}/stat")]
        .map(|path| File::open(path).expect("open"));
    files[1].seek(SeekFrom::Start(5)).expect("lseek");
    let dir = of_path(below(""));
    let listed: OwnedFd = File::open(format!("/proc/self/task/{tid}")).expect("open").into();
    sys::kill(child, libc::SIGKILL);
    check_eq!(sys::wait_status(child), Ok(libc::SIGKILL), "the end of the child");
    drop(done);
    thread.join().expect("the thread");
    crate::context::until("the thread to be gone", || read(&mut files[2]).is_some());
    // Has the kernel forget what it has read already to give next.
    check_eq!(files[1].read_at(&mut [0; 8], 0).ok(), None, "reading of the child that is dead");
    let names = [0, 1].map(|index: usize| name(&files[index]));

    cx.ready_and_wait();

    check_eq!([0, 1].map(|index: usize| name(&files[index])), names, "names");
    check_eq!(place(&files[1]), "5", "the place in status");
    check_eq!(files.each_mut().map(read), [Some(libc::ESRCH); 3], "reading");
    for dir in [&dir, &listed] {
        let inside = openat(dir, "stat", OFlags::RDONLY, Mode::empty()).map(drop);
        check!(matches!(inside, Err(Errno::NOENT | Errno::SRCH)), "looking inside: {inside:?}");
    }
    check_eq!(sys::wait_status(-1), Err(libc::ECHILD), "waiting for more");
}
