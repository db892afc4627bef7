//! An open directory, read half-way.
//!
//! Verified: the rest comes without gap and doubles, the position is the same, and it serves as a
//! base for paths.
//! CRIU: works, but the descriptor loses `O_DIRECTORY` among its flags.

use std::collections::BTreeSet;
use std::fs;

use rustix::fs::{Mode, OFlags, RawDir, open, openat};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const FILES: usize = 300;

fn run(cx: &mut Context) {
    let path = cx.path("dir");
    fs::create_dir(&path).expect("mkdir");
    for number in 0..FILES {
        fs::write(path.join(format!("file {number}")), "").expect("write");
    }
    let dir = open(&path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("open");
    // One call's worth of entries; the kernel's position is then behind them.
    let mut names = BTreeSet::new();
    let mut twice = 0;
    let mut read_some = |most: usize| {
        let mut space = Vec::with_capacity(2048);
        let mut entries = RawDir::new(&dir, space.spare_capacity_mut());
        let mut count = 0;
        while let Some(entry) = entries.next() {
            let name = entry.expect("getdents").file_name().to_owned();
            twice += usize::from(!names.insert(name));
            count += 1;
            if count >= most && entries.is_buffer_empty() {
                break;
            }
        }
        count
    };
    let first = read_some(1);
    check!((1..FILES).contains(&first), "the first call gave {first} entries");

    cx.ready_and_wait();

    let rest = read_some(usize::MAX);
    check_eq!(first + rest, FILES + 2, "entries in all");
    check_eq!(twice, 0, "entries that came twice");
    let below = openat(&dir, "file 7", OFlags::RDONLY, Mode::empty());
    check!(below.is_ok(), "opening a file below it: {below:?}");
}
