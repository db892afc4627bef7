//! A working directory that has been removed.
//!
//! Verified: `getcwd` says so, nothing can be made in it, and its name stays free.
//! CRIU: works, with a directory made again and removed.

use std::io::ErrorKind;

use rustix::io::Errno;
use rustix::process::{chdir, getcwd};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let dir = cx.path("removed");
    std::fs::create_dir(&dir).expect("mkdir");
    chdir(&dir).expect("chdir");
    std::fs::remove_dir(&dir).expect("rmdir");

    cx.ready_and_wait();

    check_eq!(getcwd(Vec::new()).err(), Some(Errno::NOENT), "getcwd");
    check_eq!(
        std::fs::write("x", "").map_err(|e| e.kind()),
        Err(ErrorKind::NotFound),
        "making a file in it"
    );
    check!(!dir.exists(), "the directory has its name again");
    check!(chdir("/").is_ok(), "leaving it");
}
