//! Children made with `CLONE_VM`: processes of their own in the memory of their parent, with or
//! without its signal handlers, directories and fd table.
//!
//! Verified: what a child changes of each, its parent sees if they share it, and only then.
//! CRIU: refuses to dump them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::umask;

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

/// The kernel allows `CLONE_SIGHAND` together with any of the others.
const SHARED: [i32; 8] = {
    let (handlers, fs, files) = (libc::CLONE_SIGHAND, libc::CLONE_FS, libc::CLONE_FILES);
    [0, handlers, fs, files, handlers | fs, handlers | files, fs | files, handlers | fs | files]
};

/// A child, in the memory that it shares.
struct Child {
    shared: i32,
    fd: i32,
    signal: i32,
    go: AtomicBool,
    done: AtomicBool,
}

/// The life of a child.
fn live(child: &Child) -> i32 {
    while !child.go.load(Ordering::Acquire) {
        sys::nap(Duration::from_millis(5));
    }
    sys::close(child.fd);
    umask(Mode::from(0o013));
    sys::ignore(child.signal);
    child.done.store(true, Ordering::Release);
    7
}

fn is_open(fd: i32) -> bool {
    std::fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_ok()
}

fn run(cx: &mut Context) {
    umask(Mode::from(0o027));
    let children = SHARED.map(|shared| {
        let index = SHARED.iter().position(|&other| other == shared).unwrap_or(0) as i32;
        let (fd, signal) = (60 + index, libc::SIGRTMIN() + index);
        sys::dup2(0, fd);
        let (go, done) = (AtomicBool::new(false), AtomicBool::new(false));
        let child: &'static Child = Box::leak(Box::new(Child { shared, fd, signal, go, done }));
        (sys::clone_vm(shared, live, child), child)
    });
    cx.ready_and_wait();
    for (pid, child) in children {
        let shares = |flag| child.shared & flag != 0;
        child.go.store(true, Ordering::Release);
        check_eq!(sys::wait_status(pid), Ok(7 << 8), "wait status of the child");
        check!(child.done.load(Ordering::Acquire), "memory is not shared: {:#x}", child.shared);
        check_eq!(!is_open(child.fd), shares(libc::CLONE_FILES), "closed: {:#x}", child.shared);
        let mask = if shares(libc::CLONE_FS) { 0o013 } else { 0o027 };
        check_eq!(umask(Mode::from(0o027)), Mode::from(mask), "umask: {:#x}", child.shared);
        let handler = sys::rt_sigaction(child.signal, None).handler;
        let ignored = handler == libc::SIG_IGN;
        check_eq!(ignored, shares(libc::CLONE_SIGHAND), "ignored: {:#x}", child.shared);
    }
}
