//! Landlock: `landlock_create_ruleset(2)`, `landlock_restrict_self(2)`.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::Errno;
use crate::sys::check;

/// `LANDLOCK_CREATE_RULESET_VERSION`.
const VERSION: u32 = 1;
/// `LANDLOCK_ACCESS_FS_EXECUTE`, in the one member that `struct landlock_ruleset_attr` had at first.
static EXECUTE: u64 = 1;

/// Whether the kernel has it, so that threads may be in domains.
#[must_use]
pub fn is_there() -> bool {
    // SAFETY: no attributes are given, which goes with the question for the version.
    let asked = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, VERSION) };
    check(asked).is_ok()
}

/// Puts the calling thread, and nobody else, into a domain below its own: it can start no program
/// any more, and never gets out.
///
/// # Errors
/// The kernel has no Landlock, or the thread is in as many domains as there can be.
pub fn enter_domain() -> Result<(), Errno> {
    // SAFETY: the attributes live over the call.
    let rules = unsafe {
        let attributes = &raw const EXECUTE;
        libc::syscall(libc::SYS_landlock_create_ruleset, attributes, size_of_val(&EXECUTE), 0)
    };
    let rules = check(rules)?;
    // SAFETY: the kernel has just made it, for this caller alone.
    let rules = unsafe { OwnedFd::from_raw_fd(rules as i32) };
    rustix::thread::set_no_new_privs(true)?;
    // SAFETY: a descriptor and a number.
    let entered = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) };
    check(entered).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_thread_itself_is_in_its_domain() {
        if !is_there() {
            return;
        }
        let starts = || std::process::Command::new("/bin/true").spawn().is_ok();
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                enter_domain().unwrap();
                starts()
            });
            assert!(!inside.join().unwrap());
        });
        assert!(starts());
    }
}
