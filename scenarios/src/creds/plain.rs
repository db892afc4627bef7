//! The credentials a process just has, as the user it was started by.
//!
//! Verified: all ids, groups, capability sets and no_new_privs; the user of a new file.
//! CRIU: works for root. For others it needs `CAP_SYS_RESOURCE`, to read resource limits by
//! `prlimit`.

use std::os::unix::fs::MetadataExt;

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let before = sys::credentials();
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());

    cx.ready_and_wait();

    check_eq!(sys::credentials(), before, "credentials");
    let path = cx.path("mine");
    std::fs::write(&path, "").expect("write");
    let metadata = std::fs::metadata(&path).expect("stat");
    check_eq!((metadata.uid(), metadata.gid()), (uid, gid), "owner of a new file");
    if uid != 0 {
        check!(rustix::process::chroot("/").is_err(), "an ordinary user may chroot");
    }
}
