//! A process that waits in `vfork(2)` for a child which takes its time.
//!
//! Verified: the dump is refused, naming process and call; then the child ends and the process goes
//! on.
//! CRIU: dumps it, and restores a process that shares no memory with its parent.

use std::time::Duration;

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused_task("vfork").dump_faults();

const STACK: usize = 64 << 10;

/// The life of the child: it waits until the path is there.
extern "C" fn wait(path: *mut libc::c_void) -> i32 {
    // SAFETY: the parent has given its path, and waits.
    let path = unsafe { &*path.cast::<sys::CPath>() };
    while !path.exists() {
        sys::nap(Duration::from_millis(5));
    }
    7
}

fn run(cx: &mut Context) {
    let parent = cx.fork(|cx| {
        let mut path = sys::CPath::new(&cx.path("go"));
        let mut stack = vec![0_u8; STACK];
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: the child has a stack of its own, which like the path outlives it: this waits
        // for it to end.
        let child = unsafe {
            let top = stack.as_mut_ptr().add(STACK).cast();
            libc::clone(wait, top, flags, (&raw mut path).cast())
        };
        check_eq!(sys::wait_status(child), Ok(7 << 8), "wait status of the child");
    });
    cx.await_state(parent, 'D');
    cx.ready_and_wait();
    cx.reap(parent);
}
