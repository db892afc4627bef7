//! Landlock, as a program restricts itself by it.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::{done, no_new_privs};

/// `LANDLOCK_CREATE_RULESET_VERSION`.
const VERSION: u32 = 1;
/// `LANDLOCK_ACCESS_FS_READ_FILE`.
static READ_FILE: u64 = 1 << 2;
/// `LANDLOCK_RULE_PATH_BENEATH`.
const PATH_BENEATH: u32 = 1;

/// Why there is none here.
pub(crate) fn no_landlock() -> Option<String> {
    // SAFETY: no memory is involved.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, VERSION) };
    (version < 0).then(|| "the kernel has no Landlock".into())
}

/// From here on the thread can open no file to read but those in a directory.
pub(crate) fn only_read_below(directory: &Path) {
    #[repr(C, packed)]
    struct Beneath(u64, i32);
    let directory = File::open(directory).expect("the directory is there");
    let beneath = Beneath(READ_FILE, directory.as_raw_fd());
    // SAFETY: attributes and rule live over their calls; the new descriptor is nobody else's.
    unsafe {
        let attributes = &raw const READ_FILE;
        let rules = libc::syscall(libc::SYS_landlock_create_ruleset, attributes, 8_usize, 0);
        let rules = OwnedFd::from_raw_fd(done(rules).expect("landlock_create_ruleset") as i32);
        let (number, rule) = (rules.as_raw_fd(), &raw const beneath);
        done(libc::syscall(libc::SYS_landlock_add_rule, number, PATH_BENEATH, rule, 0))
            .expect("landlock_add_rule");
        no_new_privs();
        done(libc::syscall(libc::SYS_landlock_restrict_self, number, 0))
            .expect("landlock_restrict_self");
    }
}
