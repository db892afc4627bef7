//! A file that was opened to write anywhere, and made append-only since: it could not be opened so
//! again.
//!
//! Verified: the dump is refused, naming process, descriptor and reason; the descriptor still writes.
//! CRIU: dumps it, and cannot restore it.

use std::os::unix::fs::FileExt;

use rustix::fs::IFlags;

use super::barred::{File42, cannot_bar};
use crate::{Context, Scenario, Users};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .users(Users::Root)
    .refused("append-only by now")
    .missing(cannot_bar);

fn run(cx: &mut Context) {
    let path = cx.path("file");
    let open = |path| std::fs::File::options().read(true).write(true).create_new(true).open(path);
    let file = File42::bar(open(&path).expect("open"), IFlags::APPEND);
    cx.ready_and_wait();
    check!(file.write_all_at(b"x", 0).is_ok(), "the descriptor cannot be written to");
}
