//! A child forked by a thread that is not the main one.
//!
//! Verified: its parent, and that the process can wait for it.
//! CRIU: works, but the child then belongs to the main thread (see `thread_child_owner`).

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).differs(&[(
    "*/children",
    "whose child it is among the threads is thread_child_owner's concern",
)]);

fn run(cx: &mut Context) {
    let root = std::process::id() as i32;
    let (thread, _) = cx.thread(move |cx| {
        let child = cx.fork(|cx| {
            cx.arrive(sys::gettid());
            cx.wait_go();
            check_eq!(sys::parent(), root, "parent of the thread's child");
        });
        cx.await_arrival(child);
        cx.arrive(sys::gettid());
        cx.wait_go();
        child
    });
    cx.ready_and_wait();
    let child = thread.join().expect("the thread does not panic");
    cx.reap(child);
}
