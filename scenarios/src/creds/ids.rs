//! Real, effective, saved and filesystem ids, all different; supplementary groups.
//!
//! Verified: the Uid, Gid and Groups lines of `status`, and that `seteuid` to the saved id works.
//! CRIU: needs `CAP_SYS_RESOURCE`, as in `plain`.

use crate::{Context, Scenario, Users, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).users(Users::Root);

fn run(cx: &mut Context) {
    let groups: Vec<u32> = (0..40).map(|g| 7000 + 3 * g).collect();
    // SAFETY: `groups` has the stated length; the rest are plain numbers. Only the effective uid
    // stays 0, so that the capabilities stay.
    let results = unsafe {
        [
            libc::setgroups(groups.len(), groups.as_ptr()),
            libc::setresgid(101, 102, 103),
            libc::setfsgid(104),
            libc::setresuid(201, 0, 203),
        ]
    };
    check_eq!(results, [0, 0, 102, 0], "setting the ids");
    // SAFETY: a plain number; it returns the id before.
    unsafe { libc::setfsuid(204) };
    // A program that changes its ids is no longer dumpable; its files in /proc would be root's.
    let before = sys::credentials();

    cx.ready_and_wait();

    check_eq!(sys::credentials(), before, "credentials");
    // SAFETY: plain numbers.
    let switched = unsafe { libc::setresuid(u32::MAX, 203, u32::MAX) };
    check_eq!(switched, 0, "seteuid to the saved id");
    check_eq!(sys::capture_status(&["Uid"]), ["Uid:\t201\t203\t203\t203"], "ids after seteuid");
    // SAFETY: as above.
    let back = unsafe { libc::setresuid(u32::MAX, 201, u32::MAX) };
    check_eq!(back, 0, "seteuid to the real id");
}
