//! A process with a mount namespace of its own.
//!
//! Verified: the dump is refused, naming the namespace, not what is open on mounts outside of it; the process still
//! has it.
//! CRIU: saves it.

use crate::{Context, Scenario, Users};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).refused_task("ns/mnt");

fn run(cx: &mut Context) {
    let before = mounts();
    // SAFETY: nobody else has the directories of this process.
    check_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0, "unshare");
    let own = mounts();
    check!(own != before, "the namespace is the old one");

    cx.ready_and_wait();

    check_eq!(mounts(), own, "the namespace");
}

fn mounts() -> std::path::PathBuf {
    std::fs::read_link("/proc/self/ns/mnt").expect("readlink")
}
