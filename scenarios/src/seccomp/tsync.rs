//! A filter that all threads got at once (`SECCOMP_FILTER_FLAG_TSYNC`), which the kernel does only
//! if none has another one.
//!
//! Verified: it holds for all, and it is so much the same that one more can be added to all.
//! CRIU: gives each thread a filter of its own.

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let threads = [(); 3].map(|()| {
        cx.thread(|cx| {
            cx.arrive(sys::gettid());
            cx.wait_go();
            check_eq!(sys::bare_call(libc::SYS_getppid), Err(71), "what the first filter denies");
            crate::context::until("the filter that comes later", || {
                sys::bare_call(libc::SYS_getpgrp) == Err(72)
            });
        })
    });
    sys::no_new_privs();
    let installed = sys::deny(sys::TSYNC, &[libc::SYS_getppid], sys::error(71));
    check_eq!(installed.ok(), Some(0), "installing a filter on all");

    cx.ready_and_wait();

    let installed = sys::deny(sys::TSYNC, &[libc::SYS_getpgrp], sys::error(72));
    check_eq!(installed.ok(), Some(0), "installing one more on all");
    for (thread, _) in threads {
        check!(thread.join().is_ok(), "a thread panicked");
    }
}
