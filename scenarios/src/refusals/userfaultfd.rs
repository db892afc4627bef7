//! A userfaultfd, whose registered ranges and waiting faults belong to its owner.
//!
//! Verified: the dump is refused, naming process, descriptor and kind; the target goes on and the
//! object works.
//! CRIU: refuses.

use super::at_42;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused("userfaultfd").missing(|| {
        let works = create().is_ok();
        (!works).then(|| "userfaultfd is not available".into())
    });

/// `include/uapi/linux/userfaultfd.h`: user mode only, which takes no privilege.
const UFFD_USER_MODE_ONLY: i32 = 1;

fn create() -> std::io::Result<i32> {
    // SAFETY: plain numbers.
    let fd =
        unsafe { libc::syscall(libc::SYS_userfaultfd, UFFD_USER_MODE_ONLY | libc::O_NONBLOCK) };
    crate::sys::done(fd).map(|fd| fd as i32)
}

fn run(cx: &mut Context) {
    at_42(create().expect("userfaultfd"));
    cx.ready_and_wait();
    // `struct uffdio_api`: version 0xaa, no features wanted.
    let mut api = [0xaau64, 0, 0];
    // SAFETY: the structure lives over the call.
    let result = unsafe { libc::ioctl(42, 0xc018_aa3f, api.as_mut_ptr()) };
    check_eq!(result, 0, "UFFDIO_API");
}
