//! Descriptors opened with `O_PATH`: of a file, a directory, a symbolic link itself, a fifo.
//!
//! Verified: they name what they named, give nothing to read, and serve as a base for paths.
//! CRIU: refuses the symbolic link; the others work.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fstat, open, openat};
use rustix::io::{Errno, read};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    fs::create_dir(cx.path("dir")).expect("mkdir");
    fs::write(cx.path("dir").join("file"), "text").expect("write");
    std::os::unix::fs::symlink("dir", cx.path("link")).expect("symlink");
    rustix::fs::mkfifoat(rustix::fs::CWD, cx.path("fifo"), Mode::RWXU).expect("mkfifo");
    let of = |path: &str, more: OFlags| -> OwnedFd {
        open(cx.path(path), OFlags::PATH | more, Mode::empty()).expect("open with O_PATH")
    };
    let fds = [
        (of("dir/file", OFlags::empty()), FileType::RegularFile),
        (of("dir", OFlags::DIRECTORY | OFlags::CLOEXEC), FileType::Directory),
        (of("link", OFlags::NOFOLLOW), FileType::Symlink),
        (of("fifo", OFlags::empty()), FileType::Fifo),
    ];
    let flags = fds.each_ref().map(|(fd, _)| fcntl_getfl(fd));

    cx.ready_and_wait();

    for ((fd, kind), flags) in fds.iter().zip(flags) {
        check_eq!(fstat(fd).map(|s| FileType::from_raw_mode(s.st_mode)), Ok(*kind), "kind");
        check_eq!(fcntl_getfl(fd), flags, "flags of the {kind:?}");
        check_eq!(read(fd, &mut [0; 1]), Err(Errno::BADF), "reading the {kind:?}");
    }
    let below = openat(&fds[1].0, "file", OFlags::RDONLY, Mode::empty());
    check_eq!(
        below.map(|fd| read(&fd, &mut [0; 9])),
        Ok(Ok(4)),
        "reading a file below the directory"
    );
}
