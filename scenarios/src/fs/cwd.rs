//! Working directories: an ordinary one, and a child's.
//!
//! Verified: `getcwd`, and that relative paths lead there.
//! CRIU: works.

use rustix::process::{chdir, getcwd};

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn enter(cx: &Context, name: &str) {
    let dir = cx.path(name);
    std::fs::create_dir(&dir).expect("mkdir");
    chdir(&dir).expect("chdir");
}

fn verify(cx: &Context, name: &str) {
    let here = getcwd(Vec::new()).map(|p| p.to_string_lossy().into_owned());
    check_eq!(here.as_deref(), Ok(cx.path(name).to_string_lossy().as_ref()), "getcwd");
    std::fs::write("made here", name).expect("write");
    check!(cx.path(name).join("made here").exists(), "a relative path leads elsewhere");
}

fn run(cx: &mut Context) {
    let child = cx.fork(|cx| {
        enter(cx, "of the child");
        cx.arrive(sys::gettid());
        cx.wait_go();
        verify(cx, "of the child");
    });
    cx.await_arrival(child);
    enter(cx, "of the root");
    cx.ready_and_wait();
    verify(cx, "of the root");
    cx.reap(child);
}
