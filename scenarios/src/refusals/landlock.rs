//! A program that has restricted itself by Landlock.
//!
//! Verified: the dump is refused, naming process and kind; the target goes on, and may still open what
//! its rules allow and nothing else.
//! CRIU: restores it without any restriction.

use std::fs::File;

use crate::{Context, Scenario, sys::landlock};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .refused_task("a Landlock domain")
    .missing(landlock::no_landlock)
    .dump_faults();

fn run(cx: &mut Context) {
    let outside = "/etc/passwd";
    check!(File::open(outside).is_ok(), "the file can be read before");
    landlock::only_read_below(&cx.path(""));
    let allowed = || (File::open(outside).is_ok(), File::open(cx.path("ready")).is_ok());
    cx.ready_and_wait();
    check_eq!(allowed(), (false, true), "what may be read");
}
