//! A memfd: open, mapped twice, sealed; another only open; another only mapped.
//!
//! Verified: contents by descriptor and mapping, size, offset, seals, and that writing through one
//! shows in the other.
//! CRIU: works.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn new(name: &str, len: usize) -> File {
    let file = File::from(
        memfd_create(name, MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).expect("memfd"),
    );
    file.set_len(len as u64).expect("ftruncate");
    file
}

fn run(cx: &mut Context) {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let mut both = new("both ways", 8 * PAGE);
    let shared = Area::map(8 * PAGE, prot, libc::MAP_SHARED, Some((both.as_fd(), 0)));
    let tail = Area::map(
        4 * PAGE,
        libc::PROT_READ,
        libc::MAP_SHARED,
        Some((both.as_fd(), 4 * PAGE as i64)),
    );
    let private = Area::map(8 * PAGE, prot, libc::MAP_PRIVATE, Some((both.as_fd(), 0)));
    shared.fill(1);
    private.pages(2, 1).fill(2);
    both.seek(SeekFrom::Start(123)).expect("seek");
    let seals = SealFlags::SHRINK | SealFlags::GROW;
    fcntl_add_seals(&both, seals).expect("F_ADD_SEALS");

    let mut open = new("only open", 0);
    open.write_all(b"text of a memfd").expect("write");

    let mapped = {
        let file = new("only mapped", 2 * PAGE);
        Area::map(2 * PAGE, prot, libc::MAP_SHARED, Some((file.as_fd(), 0)))
    };
    mapped.fill(3);

    cx.ready_and_wait();

    shared.verify(1, "shared mapping");
    private.pages(2, 1).verify(2, "page modified privately");
    mapped.verify(3, "mapping whose descriptor is closed");
    check_eq!(both.stream_position().ok(), Some(123), "offset");
    check_eq!(fcntl_get_seals(&both), Ok(seals), "seals");
    check_eq!(both.metadata().map(|m| m.len()).ok(), Some(8 * PAGE as u64), "size");
    both.write_all_at(&[0xab; 8], 5 * PAGE as u64).expect("write");
    check_eq!(tail.read(PAGE), 0xabab_abab_abab_abab, "what was written by descriptor");
    check!(both.set_len(0).is_err(), "a sealed memfd can be shrunk");
    let mut text = [0; 15];
    check!(open.read_exact_at(&mut text, 0).is_ok(), "reading the open one");
    check_eq!(text, *b"text of a memfd", "text of the open one");
    check_eq!(open.stream_position().ok(), Some(15), "offset of the open one");
}
