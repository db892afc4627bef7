//! Files and directories of `/proc` about a process that is not of the tree, and lives on.
//!
//! Verified: what they are about, by what they tell.
//! CRIU: opens them by the number, whoever has it.

use std::fs::File;

use rustix::fs::{Mode, OFlags, openat};

use super::proc::text;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// When the process began, which tells it from all others of its number.
fn start(stat: &str) -> Option<String> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19).map(Into::into)
}

fn run(cx: &mut Context) {
    let parent = sys::parent();
    let mut stat = File::open(format!("/proc/{parent}/stat")).expect("open stat");
    let thread = format!("/proc/{parent}/task/{parent}/comm");
    let mut comm = File::open(&thread).expect("open comm");
    let dir = File::open(format!("/proc/{parent}")).expect("open a directory");
    let mut told = || (start(&text(&mut stat)), text(&mut comm));
    let before = told();
    cx.ready_and_wait();
    check_eq!(told(), before, "what they tell");
    let below = openat(&dir, "stat", OFlags::RDONLY, Mode::empty()).map(File::from);
    check_eq!(below.ok().and_then(|mut file| start(&text(&mut file))), before.0, "below");
}
