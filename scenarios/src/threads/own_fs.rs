//! A thread with its own working directory and umask (`unshare(CLONE_FS)`).
//!
//! Verified: the working directory and umask of both threads.
//! CRIU: gives the thread those of the process.

use std::fs;

use rustix::fs::Mode;
use rustix::process::{chdir, getcwd, umask};

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn verify(dir: &std::path::Path, mask: u32, who: &str) {
    let found = getcwd(Vec::new()).map(|p| p.to_string_lossy().into_owned());
    check_eq!(found.as_deref(), Ok(dir.to_string_lossy().as_ref()), "working directory of {who}");
    check_eq!(umask(Mode::from(mask)), Mode::from(mask), "umask of {who}");
}

fn run(cx: &mut Context) {
    let (ours, theirs) = (cx.path("ours"), cx.path("theirs"));
    fs::create_dir(&ours).expect("mkdir");
    fs::create_dir(&theirs).expect("mkdir");
    let dir = theirs.clone();
    let (thread, _) = cx.thread(move |cx| {
        // SAFETY: a plain flag.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_FS) }, 0, "unshare(CLONE_FS)");
        chdir(&dir).expect("chdir");
        umask(Mode::from(0o027));
        cx.arrive(sys::gettid());
        cx.wait_go();
        verify(&dir, 0o027, "the thread");
    });
    chdir(&ours).expect("chdir");
    umask(Mode::from(0o022));
    cx.ready_and_wait();
    verify(&ours, 0o022, "the process");
    check!(thread.join().is_ok(), "the thread panicked");
}
