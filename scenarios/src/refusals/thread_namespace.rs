//! A thread with a namespace of its own, while all others have the usual one.
//!
//! Verified: the dump is refused, naming the namespace; the thread still has it.
//! CRIU: loses it.

use crate::{Context, Scenario, Users};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).refused_task("ns/uts");

fn run(cx: &mut Context) {
    let (go, gone) = std::sync::mpsc::channel();
    let (thread, _) = cx.thread(move |cx| {
        // SAFETY: only this thread changes.
        check_eq!(unsafe { libc::unshare(libc::CLONE_NEWUTS) }, 0, "unshare");
        let own = uts();
        cx.arrive(crate::sys::gettid());
        let () = gone.recv().expect("the root goes on");
        check_eq!(uts(), own, "the namespace");
        own
    });

    cx.ready_and_wait();

    go.send(()).expect("the thread is there");
    let own = thread.join().expect("the thread");
    check!(own != uts(), "the root has the thread's namespace");
}

fn uts() -> std::path::PathBuf {
    std::fs::read_link("/proc/thread-self/ns/uts").expect("readlink")
}
