//! A file of a tmpfs that was unmounted while it was open.
//!
//! Verified: the dump is refused for that, naming process and descriptor; the file is there.
//! CRIU: refuses.

use std::fs::{self, File};
use std::os::fd::IntoRawFd;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::at_42;
use crate::{Context, Scenario, Users};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .users(Users::Root)
    .refused("a file on a mount that cannot be seen from here");

fn run(cx: &mut Context) {
    let place = cx.path("mount");
    fs::create_dir(&place).expect("mkdir");
    mount("none", &place, "tmpfs", MountFlags::empty(), None::<&std::ffi::CStr>).expect("mount");
    let file = File::options().read(true).write(true).create_new(true).open(place.join("file"));
    unmount(&place, UnmountFlags::DETACH).expect("umount");
    at_42(file.expect("open").into_raw_fd());
    cx.ready_and_wait();
    check!(File::open("/proc/self/fd/42").is_ok(), "the file is gone");
}
