//! A file that was renamed while open, and one whose old name is another file now.
//!
//! Verified: each descriptor reads its own file; `/proc` names the new path.
//! CRIU: works.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (old, new) = (cx.path("old"), cx.path("new"));
    fs::write(&old, "the first").expect("write");
    let first = File::open(&old).expect("open");
    fs::rename(&old, &new).expect("rename");
    fs::write(&old, "the other").expect("write");
    let other = File::open(&old).expect("open");

    cx.ready_and_wait();

    for (file, path, text) in [(&first, &new, b"the first"), (&other, &old, b"the other")] {
        let mut bytes = [0; 9];
        check!(file.read_exact_at(&mut bytes, 0).is_ok(), "reading");
        check_eq!(bytes, *text, "text");
        let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok();
        check_eq!(link.as_ref(), Some(path), "path");
    }
}
