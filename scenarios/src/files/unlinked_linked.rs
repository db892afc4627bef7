//! A file whose name was removed while it has another one.
//!
//! Verified: it is still the file of the other name: same inode, writes show; the removed name
//! stays free, and no third one is left.
//! CRIU: works only where it may make a temporary link (`--link-remap`).

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).options(&["--link-remap"]);

pub(super) fn run(cx: &mut Context) {
    let (name, other) = (cx.path("removed"), cx.path("other"));
    fs::write(&name, "content").expect("write");
    fs::hard_link(&name, &other).expect("link");
    let file = File::options().read(true).write(true).open(&name).expect("open");
    fs::remove_file(&name).expect("unlink");

    cx.ready_and_wait();

    let (open, named) = (file.metadata().expect("fstat"), fs::metadata(&other).expect("stat"));
    check_eq!((open.dev(), open.ino()), (named.dev(), named.ino()), "device and inode");
    check_eq!(open.nlink(), 1, "link count");
    file.write_all_at(b"CON", 0).expect("write");
    check_eq!(
        fs::read_to_string(&other).ok().as_deref(),
        Some("CONtent"),
        "content by the other name"
    );
    check!(!name.exists(), "the removed name is there again");
}
