//! An io_uring instance, which holds kernel state nothing can read.
//!
//! Verified: the dump is refused, naming process, descriptor and kind; the target goes on and the
//! object works.
//! CRIU: refuses.

use super::at_42;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused("io_uring").missing(|| {
        let works = create().is_ok();
        (!works).then(|| "io_uring is not available".into())
    });

fn create() -> std::io::Result<i32> {
    // `struct io_uring_params` has 120 bytes; zeros ask for defaults.
    let mut params = [0u64; 15];
    // SAFETY: the parameters live over the call.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, params.as_mut_ptr()) };
    crate::sys::done(fd).map(|fd| fd as i32)
}

fn run(cx: &mut Context) {
    at_42(create().expect("io_uring_setup"));
    cx.ready_and_wait();
    // SAFETY: nothing is submitted, nothing is waited for.
    let entered = unsafe { libc::syscall(libc::SYS_io_uring_enter, 42, 0, 0, 0, 0, 0usize) };
    check_eq!(entered, 0, "io_uring_enter");
}
