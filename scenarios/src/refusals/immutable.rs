//! A file that was opened for appending, and made immutable since.
//!
//! Verified: the dump is refused, naming process, descriptor and reason; the descriptor still writes.
//! CRIU: dumps it, and cannot restore it.

use std::io::Write;

use rustix::fs::IFlags;

use super::barred::{File42, cannot_bar};
use crate::{Context, Scenario, Users};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .users(Users::Root)
    .refused("immutable by now")
    .missing(cannot_bar);

fn run(cx: &mut Context) {
    let file = std::fs::File::options().append(true).create(true).open(cx.path("file"));
    let file = File42::bar(file.expect("open"), IFlags::IMMUTABLE);
    cx.ready_and_wait();
    check!((&*file).flush().is_ok(), "the descriptor is of no use");
}
