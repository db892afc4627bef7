//! What there is of memfds beside contents: times, extended attributes, room that was allocated and
//! never written. One is mapped and sealed, one is only mapped; a file without a name is mapped too.
//!
//! Verified: both times (a dump must not even touch them), names and values of the attributes, blocks,
//! and that what is allocated behind the end is there.
//! CRIU: loses all of it.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, Stat, Timespec, Timestamps, XattrFlags, fallocate,
    fcntl_add_seals, fgetxattr, fsetxattr, fstat, futimens, memfd_create, stat,
};

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// Seconds and nanoseconds.
type Time = (i64, u64);

const TIMES: (Time, Time) = ((1000, 5), (2_000_000_000, 999_999_999));

fn new(name: &str) -> File {
    let flags = MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
    let mut file = File::from(memfd_create(name, flags).expect("memfd"));
    file.write_all(&[7; 3 * PAGE]).expect("write");
    file
}

fn set_times(file: &File) {
    let time = |(tv_sec, nsec): Time| Timespec { tv_sec, tv_nsec: nsec as i64 };
    let (last_access, last_modification) = (time(TIMES.0), time(TIMES.1));
    futimens(file, &Timestamps { last_access, last_modification }).expect("futimens");
}

fn times_of(stat: Stat) -> (Time, Time) {
    ((stat.st_atime, stat.st_atime_nsec), (stat.st_mtime, stat.st_mtime_nsec))
}

fn times(file: &File) -> (Time, Time) {
    times_of(fstat(file).expect("fstat"))
}

fn map(file: &File) -> Area {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    Area::map(3 * PAGE, prot, libc::MAP_SHARED, Some((file.as_fd(), 0)))
}

/// The file behind a mapping.
fn behind(area: Area) -> String {
    format!("/proc/self/map_files/{:x}-{:x}", area.start(), area.end())
}

fn run(cx: &mut Context) {
    let sealed = new("sealed");
    let _mapping = map(&sealed);
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE;
    fcntl_add_seals(&sealed, seals).expect("F_ADD_SEALS");
    set_times(&sealed);

    let closed = new("closed");
    let mapped = map(&closed);
    set_times(&closed);
    drop(closed);

    let mut unlinked = File::create_new(cx.path("unlinked")).expect("create");
    unlinked.write_all(&[7; 3 * PAGE]).expect("write");
    drop(unlinked);
    let flags = rustix::fs::OFlags::RDWR;
    let unlinked = rustix::fs::open(cx.path("unlinked"), flags, rustix::fs::Mode::empty());
    let unlinked = File::from(unlinked.expect("open"));
    fs::remove_file(cx.path("unlinked")).expect("unlink");
    let _unlinked_mapping = map(&unlinked);
    set_times(&unlinked);

    let room = new("room");
    let page = PAGE as u64;
    for (from, pages) in [(5, 7), (40, 1), (1000, 256)] {
        let flags = FallocateFlags::KEEP_SIZE;
        fallocate(&room, flags, from * page, pages * page).expect("fallocate");
    }
    room.set_len(8 * page + 100).expect("ftruncate");
    fallocate(&room, FallocateFlags::KEEP_SIZE, 500 * page, 256 * page).expect("fallocate");
    let blocks = room.metadata().expect("fstat").blocks();

    let named = new("named");
    let attributes = [("user.one", &b"1"[..]), ("user.empty", b""), ("trusted.two", &[0, 255])];
    let set = |&&(name, value): &&(&str, &[u8])| {
        fsetxattr(&named, name, value, XattrFlags::empty()).is_ok()
    };
    let attributes: Vec<_> = attributes.iter().filter(set).collect();
    set_times(&named);

    cx.ready_and_wait();

    check_eq!(times(&sealed), TIMES, "times of the sealed one");
    check_eq!(times(&named), TIMES, "times of the one with attributes");
    if let Ok(stat) = stat(behind(mapped)) {
        check_eq!(times_of(stat), TIMES, "times of the mapped one");
    }
    check_eq!(times(&unlinked), TIMES, "times of the unlinked file");
    check_eq!(room.metadata().map(|it| it.blocks()).ok(), Some(blocks), "blocks");
    check_eq!(room.metadata().map(|it| it.len()).ok(), Some(8 * page + 100), "size");
    check_eq!(blocks, (3 + 7 + 1 + 256 + 256) * page / 512, "blocks that were allocated");
    room.set_len(700 * page).expect("ftruncate");
    room.set_len(600 * page).expect("ftruncate");
    let left = (3 + 7 + 1 + 100) * page / 512;
    check_eq!(room.metadata().map(|it| it.blocks()).ok(), Some(left), "blocks before page 600");
    for (name, value) in attributes {
        let mut found = [0; 16];
        let len = fgetxattr(&named, *name, &mut found[..]);
        check_eq!(len.map(|len| found[..len].to_vec()), Ok(value.to_vec()), "attribute {name}");
    }
}
