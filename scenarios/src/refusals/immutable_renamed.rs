//! A file that has another name, lost the one it was opened by, and is immutable: a restore could not
//! link it to open it by that.
//!
//! Verified: the dump is refused, naming process, descriptor and reason; the descriptor still reads.
//! CRIU: refuses for want of `--link-remap`.

use std::fs;
use std::os::unix::fs::FileExt;

use rustix::fs::IFlags;

use super::barred::{File42, cannot_bar};
use crate::{Context, Scenario, Users};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .users(Users::Root)
    .refused("append-only or immutable")
    .missing(cannot_bar);

fn run(cx: &mut Context) {
    let (lost, other) = (cx.path("lost"), cx.path("other"));
    fs::write(&lost, "content").expect("write");
    fs::hard_link(&lost, &other).expect("link");
    let file = fs::File::open(&lost).expect("open");
    fs::remove_file(&lost).expect("unlink");
    let file = File42::bar(file, IFlags::IMMUTABLE);
    cx.ready_and_wait();
    let mut text = [0; 7];
    check!(file.read_exact_at(&mut text, 0).is_ok(), "the descriptor cannot be read");
}
