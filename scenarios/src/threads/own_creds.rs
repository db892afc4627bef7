//! Threads with credentials of their own, as the raw system calls allow: ids, groups,
//! capabilities, no_new_privs.
//!
//! Verified: the credentials of every thread, as `status` tells them.
//! CRIU: works.

use crate::{Context, Scenario, Users, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).users(Users::Root);

fn run(cx: &mut Context) {
    let threads: Vec<_> = (1..4u32)
        .map(|number| {
            cx.thread(move |cx| {
                let groups = [8000 + number, 9000 + number];
                // SAFETY: `groups` has the stated length, the rest are plain numbers; the raw calls
                // change this thread alone.
                let results = unsafe {
                    [
                        libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()),
                        libc::syscall(
                            libc::SYS_setresgid,
                            110 * number,
                            120 * number,
                            130 * number,
                        ),
                        libc::syscall(libc::SYS_prctl, libc::PR_SET_KEEPCAPS, number & 1, 0, 0, 0),
                        libc::syscall(
                            libc::SYS_setresuid,
                            210 * number,
                            220 * number,
                            230 * number,
                        ),
                        libc::syscall(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                    ]
                };
                assert_eq!(results, [0; 5], "changing a thread's credentials");
                let before = sys::credentials();
                cx.arrive(sys::gettid());
                cx.wait_go();
                check_eq!(sys::credentials(), before, "credentials of thread {number}");
            })
        })
        .collect();
    let before = sys::credentials();
    cx.ready_and_wait();
    check_eq!(sys::credentials(), before, "credentials of the main thread");
    for (thread, _) in threads {
        check!(thread.join().is_ok(), "a thread panicked");
    }
}
