//! A filter of a process that was root when it was installed, and is not any more: without
//! `no_new_privs` it could not install one now.
//!
//! Verified: filter, ids, and that there is no `no_new_privs`.
//! CRIU: works.

use super::status;
use crate::{Context, Scenario, User, Users, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).users(Users::Root);

fn run(cx: &mut Context) {
    check!(sys::deny(0, &[libc::SYS_getppid], sys::error(71)).is_ok(), "installing a filter");
    // SAFETY: plain numbers.
    let results = unsafe {
        [
            libc::setresgid(User::GID, User::GID, User::GID),
            libc::setresuid(User::UID, User::UID, User::UID),
            libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0),
        ]
    };
    check_eq!(results, [0; 3], "becoming a user");
    let before = (status(), sys::credentials());

    cx.ready_and_wait();

    check_eq!((status(), sys::credentials()), before, "status");
    check_eq!(sys::bare_call(libc::SYS_getppid), Err(71), "what the filter denies");
}
