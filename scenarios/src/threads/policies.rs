//! Nice values of threads whose policy makes no use of them.
//!
//! Verified: policy, priority and nice value of each, and that the nice value comes into its own with
//! `SCHED_OTHER`.
//! CRIU: works.

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// Policies with a priority each. A user has no right to real-time policies, and stays with the first.
const POLICIES: [(i32, i32); 4] =
    [(libc::SCHED_OTHER, 0), (libc::SCHED_IDLE, 0), (libc::SCHED_FIFO, 1), (libc::SCHED_RR, 2)];

fn nice() -> i64 {
    // SAFETY: no memory is involved. The call itself tells 20 minus the value.
    unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) }
}

fn set(policy: i32, priority: i32) -> bool {
    // SAFETY: a `struct sched_param` is one int, which lives over the call.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) == 0 }
}

/// Policy, priority and nice value of this thread.
fn all() -> (i64, i32, i64) {
    let mut priority = 0i32;
    // SAFETY: the kernel writes one int.
    unsafe { libc::syscall(libc::SYS_sched_getparam, 0, &raw mut priority) };
    // SAFETY: no memory is involved.
    (unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) }, priority, nice())
}

fn run(cx: &mut Context) {
    let mut threads = Vec::new();
    for (value, (policy, priority)) in (3..).zip(POLICIES) {
        let (thread, _) = cx.thread(move |cx| {
            // SAFETY: no memory is involved.
            let set_nice =
                unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, value) };
            check_eq!(set_nice, 0, "setpriority");
            set(policy, priority);
            let before = all();
            cx.arrive(sys::gettid());
            crate::context::until_forever(|| cx.gone());
            let after = all();
            set(libc::SCHED_OTHER, 0);
            (before, after, nice())
        });
        threads.push((value, thread));
    }

    cx.ready_and_wait();

    for (value, thread) in threads {
        let (before, after, nice) = thread.join().expect("the thread");
        check_eq!(after, before, "policy, priority and nice value");
        check_eq!(nice, 20 - value, "the nice value in the end");
    }
}
