//! The umask: unusual ones in parent and child.
//!
//! Verified: the mask, and the mode of a new file.
//! CRIU: works.

use std::os::unix::fs::PermissionsExt;

use rustix::fs::Mode;
use rustix::process::umask;

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn verify(cx: &Context, name: &str, mask: u32) {
    let path = cx.path(name);
    std::fs::write(&path, "").expect("write");
    let mode = std::fs::metadata(&path).expect("stat").permissions().mode() & 0o777;
    check_eq!(mode, 0o666 & !mask, "mode of a new file under mask {mask:o}");
    check_eq!(umask(Mode::from(0)), Mode::from(mask), "umask");
}

fn run(cx: &mut Context) {
    let child = cx.fork(|cx| {
        umask(Mode::from(0o137));
        cx.arrive(sys::gettid());
        cx.wait_go();
        verify(cx, "by the child", 0o137);
    });
    cx.await_arrival(child);
    umask(Mode::from(0o031));
    cx.ready_and_wait();
    verify(cx, "by the root", 0o031);
    cx.reap(child);
}
