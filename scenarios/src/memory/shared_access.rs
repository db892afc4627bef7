//! Shared mappings that cannot be written to, of files open for reading only, for both, and of memfds that
//! are sealed against writing: before a mapping is made, or after, or but for what is mapped already.
//!
//! Verified: contents; which can be made writable, in a child that has inherited them and in one forked
//! afterwards. The flags themselves are in `smaps`, which the harness compares.
//! CRIU: cannot restore it: it seals what it has mapped so that it could be written to.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const R: i32 = libc::PROT_READ;
const W: i32 = libc::PROT_WRITE;

/// What is mapped, of what contents, and whether it can be made writable.
type Mapped = (&'static str, Area, u64, bool);

fn memfd(name: &str, seed: u64) -> File {
    let flags = MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
    let file = File::from(memfd_create(name, flags).expect("memfd"));
    written(file, seed)
}

/// Four pages with a pattern.
fn written(file: File, seed: u64) -> File {
    file.set_len(4 * PAGE as u64).expect("ftruncate");
    let area = share(&file, R | W);
    area.fill(seed);
    area.unmap();
    file
}

fn share(file: &File, prot: i32) -> Area {
    Area::map(4 * PAGE, prot, libc::MAP_SHARED, Some((file.as_fd(), 0)))
}

fn seal(file: &File, seals: SealFlags) {
    fcntl_add_seals(file, seals).expect("F_ADD_SEALS");
}

fn verify(mapped: &[Mapped]) {
    for &(what, area, seed, writable) in mapped {
        area.verify(seed, what);
        check_eq!(area.try_protect(R | W), writable, "whether it can be made writable: {what}");
        if writable {
            area.protect(R);
        }
    }
}

fn run(cx: &mut Context) {
    let create = |path: &Path| {
        File::options().read(true).write(true).create(true).truncate(true).open(path).expect("open")
    };
    let path = cx.path("regular");
    let regular = written(create(&path), 1);
    let regular_read = File::open(&path).expect("open");

    let plain = memfd("plain", 2);
    let plain_read = File::open(format!("/proc/self/fd/{}", plain.as_raw_fd())).expect("open");

    let sealed = memfd("sealed", 3);
    seal(&sealed, SealFlags::WRITE);
    let sealed_area = share(&sealed, R);
    sealed_area.pages(1, 1).advise(libc::MADV_RANDOM).expect("madvise");
    sealed_area.pages(2, 1).advise(libc::MADV_HUGEPAGE).expect("madvise");

    let later = memfd("later", 4);
    let before = share(&later, R);
    let writable = share(&later, R | W);
    seal(&later, SealFlags::FUTURE_WRITE);
    let after = share(&later, R);
    let none = share(&later, libc::PROT_NONE);

    // Whose descriptor is closed.
    let gone = memfd("gone", 5);
    seal(&gone, SealFlags::WRITE | SealFlags::SEAL);
    let gone_area = share(&gone, R);
    let place = Area::map(2 * PAGE, libc::PROT_NONE, libc::MAP_PRIVATE, None);
    place.unmap();
    let part = |page: usize, offset: usize| {
        let file = Some((gone.as_fd(), (offset * PAGE) as i64));
        let at = place.start() + page * PAGE;
        Area::map_at(at, PAGE, R, libc::MAP_SHARED, file).expect("mmap")
    };
    let parts = [part(0, 2), part(1, 1)];
    let private = Area::map(4 * PAGE, R | W, libc::MAP_PRIVATE, Some((gone.as_fd(), 0)));
    private.pages(3, 1).fill(6);
    drop(gone);

    let mapped = [
        ("a file open for both", share(&regular, R), 1, true),
        ("a file open for reading", share(&regular_read, R), 1, false),
        ("a memfd", share(&plain, R), 2, true),
        ("a memfd open for reading", share(&plain_read, R), 2, false),
        ("a sealed memfd", sealed_area, 3, false),
        ("a memfd sealed afterwards", before, 4, true),
        ("a memfd sealed before", after, 4, false),
        ("a sealed memfd whose descriptor is closed", gone_area, 5, false),
    ];
    let child = cx.fork(|cx| {
        private.pages(2, 1).fill(7);
        cx.arrive(sys::gettid());
        cx.wait_go();
        verify(&mapped);
        private.pages(2, 1).verify(7, "a page of the child");
    });
    cx.await_arrival(child);

    cx.ready_and_wait();

    cx.reap(child);
    verify(&mapped);
    let child = cx.fork(|_| verify(&mapped));
    cx.reap(child);
    check_eq!(parts[0].read(0), gone_area.read(2 * PAGE), "a part");
    check_eq!(parts[1].read(0), gone_area.read(PAGE), "another part");
    check!(none.try_protect(R), "what could not be read cannot be made readable");
    check!(!none.try_protect(R | W), "what could not be read can be made writable");
    writable.write(PAGE, 1234);
    for (what, view) in [("before", before), ("after", after), ("none", none)] {
        check_eq!(view.read(PAGE), 1234, "what is written to what was mapped before: {what}");
    }
    private.pages(3, 1).verify(6, "a page written privately");
    let file = Some((later.as_fd(), 0));
    let refused = Area::map_at(0, PAGE, R | W, libc::MAP_SHARED, file).is_err();
    check!(refused, "a sealed memfd can be mapped writable");
}
