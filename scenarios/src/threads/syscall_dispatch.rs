//! Syscall user dispatch, while its selector lets calls through.
//!
//! Verified: once the selector blocks, a call raises `SIGSYS` and is not made.
//! CRIU: loses it.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).missing(|| {
    // SAFETY: off is what it is.
    let known = unsafe { libc::prctl(PR_SET_SYSCALL_USER_DISPATCH, 0, 0, 0, 0) } == 0;
    (!known).then(|| "the kernel has no syscall user dispatch".into())
});

const PR_SET_SYSCALL_USER_DISPATCH: i32 = 59;
const ALLOW: u8 = 0;
const BLOCK: u8 = 1;

static SELECTOR: AtomicU8 = AtomicU8::new(ALLOW);
static CAUGHT: AtomicU32 = AtomicU32::new(0);

extern "C" fn caught(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    SELECTOR.store(ALLOW, Ordering::SeqCst);
    CAUGHT.fetch_add(1, Ordering::SeqCst);
}

fn run(cx: &mut Context) {
    sys::handle(libc::SIGSYS, caught, 0);
    // SAFETY: the selector is static.
    let on =
        unsafe { libc::prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, SELECTOR.as_ptr() as usize) };
    check_eq!(on, 0, "PR_SET_SYSCALL_USER_DISPATCH");

    cx.ready_and_wait();

    check_eq!(CAUGHT.load(Ordering::SeqCst), 0, "calls caught before");
    SELECTOR.store(BLOCK, Ordering::SeqCst);
    // SAFETY: asks for a number.
    unsafe { libc::syscall(libc::SYS_getppid) };
    check_eq!(CAUGHT.load(Ordering::SeqCst), 1, "calls caught");
}
