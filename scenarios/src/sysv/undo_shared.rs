//! What is to be undone of operations on semaphores, in common to processes (`CLONE_SYSVSEM`).
//!
//! Verified: it is undone when the last of them ends, and that of another process before.
//! CRIU: loses it.

use super::Semaphores;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let semaphores = Semaphores::make(&[10, 10]);
    semaphores.operate(&[(0, -1)]);
    let child = |flags: i32, by: i16| {
        let pid = cx.fork_sharing(flags, |cx| {
            semaphores.operate(&[(0, by), (1, by)]);
            cx.arrive(sys::own_pid());
            super::undo::await_look(cx);
        });
        cx.await_arrival(pid);
        pid
    };
    let sharing = child(libc::CLONE_SYSVSEM, -2);
    let apart = child(0, -4);
    let before = semaphores.values();
    cx.ready_and_wait();
    check_eq!(semaphores.values(), before, "values while all of them live");
    cx.publish("looked", "");
    cx.reap(sharing);
    cx.reap(apart);
    check_eq!(before, [3, 4], "values before");
    check_eq!(semaphores.values(), [7, 8], "values when only what is shared is left");
    semaphores.remove();
}
