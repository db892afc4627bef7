//! Files without a name: their content exists in the open descriptor only. Opened read-write,
//! read-only, twice; of a size that is no multiple of a page; empty; with a hole.
//!
//! Verified: content, size, offset, link count; that two descriptions of one such file see each other's
//! writes; that the names stay free.
//! CRIU: works up to `--ghost-limit` bytes, 1 MiB unless told.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn run(cx: &mut Context) {
    let open = |name: &str| {
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(cx.path(name))
            .expect("open")
    };
    let text: Vec<u8> = (0..50_001u32).map(|i| (i * 7) as u8).collect();

    let mut full = open("full");
    full.write_all_at(&text, 0).expect("write");
    full.seek(SeekFrom::Start(33)).expect("seek");
    let again = open("full");
    let read_only = File::open(cx.path("full")).expect("open");
    let empty = open("empty");
    let holed = open("holed");
    holed.write_all_at(b"end", 300_000).expect("write");
    for name in ["full", "empty", "holed"] {
        fs::remove_file(cx.path(name)).expect("unlink");
    }

    cx.ready_and_wait();

    let read = |file: &File| {
        let mut bytes = vec![0; file.metadata().expect("fstat").len() as usize];
        file.read_exact_at(&mut bytes, 0).map(|()| bytes).ok()
    };
    check!(read(&full).as_ref() == Some(&text), "content differs");
    check_eq!(full.stream_position().ok(), Some(33), "offset");
    check_eq!(full.metadata().map(|m| m.nlink()).ok(), Some(0), "link count");
    check!(read(&read_only).as_ref() == Some(&text), "content by the read-only descriptor differs");
    check!(read_only.write_all_at(b"x", 0).is_err(), "the read-only descriptor can be written");
    again.write_all_at(b"changed", 0).expect("write");
    check_eq!(
        read(&full).map(|b| b[..7].to_vec()).as_deref(),
        Some(&b"changed"[..]),
        "written by another description"
    );
    check_eq!(empty.metadata().map(|m| m.len()).ok(), Some(0), "size of the empty one");
    let mut end = [1; 4];
    check!(holed.read_exact_at(&mut end, 299_999).is_ok(), "reading behind the hole");
    check_eq!(end, *b"\0end", "what is behind the hole");
    for name in ["full", "empty", "holed"] {
        check!(!cx.path(name).exists(), "{name} has its name again");
    }
}
