//! One thread of several that has said that disks depend on it (`PR_SET_IO_FLUSHER`).
//!
//! Verified: the dump is refused, naming the thread and the kind; the thread is one still, and the first
//! is not.
//! CRIU: restores it as any other thread.

use crate::context::until_forever;
use crate::{Context, Scenario, Users, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .refused_task("PR_SET_IO_FLUSHER")
    .users(Users::Root)
    .missing(|| {
        const SYS_RESOURCE: u32 = 24;
        // SAFETY: plain numbers.
        let has = unsafe { libc::prctl(libc::PR_CAPBSET_READ, SYS_RESOURCE) };
        (has != 1).then(|| "root has no CAP_SYS_RESOURCE".into())
    });

// include/uapi/linux/prctl.h
const PR_SET_IO_FLUSHER: i32 = 57;
const PR_GET_IO_FLUSHER: i32 = 58;

fn is_flusher() -> bool {
    // SAFETY: plain numbers.
    unsafe { libc::prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0) == 1 }
}

fn run(cx: &mut Context) {
    let (thread, _) = cx.thread(|cx| {
        // SAFETY: plain numbers.
        let set = unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) };
        check_eq!(set, 0, "PR_SET_IO_FLUSHER");
        cx.arrive(sys::gettid());
        until_forever(|| cx.gone());
        check!(is_flusher(), "the thread is none any more");
    });
    cx.ready_and_wait();
    check!(!is_flusher(), "the first thread is one");
    check!(thread.join().is_ok(), "the thread panicked");
}
