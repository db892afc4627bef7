//! A namespace that nobody is in.
//!
//! Verified: the dump is refused, naming the descriptor; the namespace is still there.
//! CRIU: refuses it.

use std::fs::File;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use crate::files::proc::name;
use crate::{Context, Scenario, Users};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).refused("namespace");

fn run(cx: &mut Context) {
    let other = std::thread::spawn(|| {
        // SAFETY: only this thread changes, and it ends.
        check_eq!(unsafe { libc::unshare(libc::CLONE_NEWUTS) }, 0, "unshare");
        File::open("/proc/thread-self/ns/uts").expect("open")
    });
    let other = other.join().expect("the thread");
    let before = name(&other);
    super::at_42(other.into_raw_fd());

    cx.ready_and_wait();

    // SAFETY: the number has been this descriptor's all along.
    check_eq!(name(&unsafe { OwnedFd::from_raw_fd(42) }), before, "the namespace");
}
