//! Open namespaces of every type, also by `O_PATH`, and links to them.
//!
//! Verified: which they are; flags; what `ioctl_ns(2)` tells.
//! CRIU: refuses those opened with `O_PATH`.

use std::fs::{File, read_link};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags, fcntl_getfl, fstat, open};

use super::proc::name;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// `NS_GET_NSTYPE`.
const GET_TYPE: libc::Ioctl = 0xb703;

fn type_(file: &OwnedFd) -> i32 {
    // SAFETY: no memory is involved.
    unsafe { libc::ioctl(file.as_raw_fd(), GET_TYPE) }
}

fn run(cx: &mut Context) {
    let types = [
        ("cgroup", libc::CLONE_NEWCGROUP),
        ("ipc", libc::CLONE_NEWIPC),
        ("mnt", libc::CLONE_NEWNS),
        ("net", libc::CLONE_NEWNET),
        ("pid_for_children", libc::CLONE_NEWPID),
        ("time", libc::CLONE_NEWTIME),
        ("user", libc::CLONE_NEWUSER),
        ("uts", libc::CLONE_NEWUTS),
    ];
    let path = |type_: &str| format!("/proc/self/ns/{type_}");
    let files = types.map(|(name, _)| OwnedFd::from(File::open(path(name)).expect("open")));
    let by_path = open(path("net"), OFlags::PATH, Mode::empty()).expect("open with O_PATH");
    let link = super::proc::of_path(path("net"));
    let waits_not = open(path("net"), OFlags::NONBLOCK, Mode::empty()).expect("open");
    let all = || files.iter().chain([&by_path, &link, &waits_not]);
    let flags: Vec<_> = all().map(fcntl_getfl).collect();
    let names: Vec<_> = all().map(name).collect();

    cx.ready_and_wait();

    check_eq!(all().map(fcntl_getfl).collect::<Vec<_>>(), flags, "flags");
    check_eq!(all().map(name).collect::<Vec<_>>(), names, "names");
    for ((name, flag), file) in types.iter().zip(&files) {
        check_eq!(type_(file), *flag, "the type of {name}");
        let own = read_link(path(name)).ok();
        check_eq!(
            own.as_ref(),
            Some(&super::proc::name(file)),
            "that it is this process's: {name}"
        );
    }
    let inode = |file| fstat(file).map(|stat| stat.st_ino);
    check_eq!(inode(&by_path), inode(&waits_not), "the network by path");
}
