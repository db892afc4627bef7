//! Shared file mappings in two processes.
//!
//! Verified: what one writes the other and `read` see, both ways, after the checkpoint.
//! CRIU: works.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let path = cx.path("shared");
    fs::write(&path, vec![0; 8 * PAGE]).expect("write");
    let file = File::options().read(true).write(true).open(&path).expect("open");
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let area = Area::map(8 * PAGE, prot, libc::MAP_SHARED, Some((file.as_fd(), 0)));
    area.fill(3);
    // Read-only in the process although the file is open for writing.
    let view = Area::map(
        4 * PAGE,
        libc::PROT_READ,
        libc::MAP_SHARED,
        Some((file.as_fd(), 4 * PAGE as i64)),
    );
    let child = cx.fork(|cx| {
        cx.arrive(sys::gettid());
        cx.wait_go();
        area.verify(3, "the child's view");
        area.write(0, 0xc0ffee);
    });
    cx.await_arrival(child);
    drop(file);

    cx.ready_and_wait();

    cx.reap(child);
    check_eq!(area.read(0), 0xc0ffee, "what the child wrote");
    area.write(5 * PAGE, 0xbeef);
    check_eq!(view.read(PAGE), 0xbeef, "the same page by another mapping");
    let mut word = [0; 8];
    File::open(&path).expect("open").read_exact_at(&mut word, 5 * PAGE as u64).expect("read");
    check_eq!(u64::from_ne_bytes(word), 0xbeef, "the same page in the file");
}
