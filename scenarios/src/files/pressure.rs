//! Files that are to tell of pressure on the system, and on a control group, once it is so high.
//!
//! Verified: each still watches for something, as no other can be set; a read-only one does not;
//! that none has anything to tell.
//! CRIU: they watch nothing any more.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::facts::Users;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).missing(|| {
        let works = watching("/proc/pressure/memory".into(), "some 1900000 2000000").is_some();
        (!works).then(|| "the kernel does not watch pressure (PSI)".into())
    });

/// Asks for what needs no privilege: windows of so many times two seconds.
fn watching(path: PathBuf, what: &str) -> Option<File> {
    let mut file = File::options().read(true).write(true).open(path).ok()?;
    file.write_all(format!("{what}\0").as_bytes()).ok()?;
    Some(file)
}

fn run(cx: &mut Context) {
    let groups = ["/sys/fs/cgroup/memory.pressure", "/sys/fs/cgroup/unified/memory.pressure"];
    // Tasks are never all kept from the processor, unless a virtual machine stands still; a loaded machine
    // may tell of everything else.
    let all = [
        ("/proc/pressure/cpu", "full 9990000 10000000"),
        ("/proc/pressure/cpu", "full 7990000 8000000"),
        (groups[0], "full 9990000 10000000"),
        (groups[1], "full 9990000 10000000"),
    ];
    let mut files: Vec<File> =
        all.iter().filter_map(|(path, what)| watching((*path).into(), what)).collect();
    check!(files.len() >= 2, "files that watch");
    let mut idle =
        File::options().read(true).write(true).open("/proc/pressure/memory").expect("open");

    cx.ready_and_wait();

    let set = |file: &mut File| {
        let written = file.write_all(b"some 1900000 2000000\0");
        written.map_err(|error| error.raw_os_error().unwrap_or(0))
    };
    for (at, file) in files.iter_mut().enumerate() {
        check_eq!(set(file), Err(libc::EBUSY), "watching for something else, {at}");
        let mut asked = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::PRI)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        check_eq!(poll(&mut asked, Some(&at_once)), Ok(0), "having something to tell, {at}");
    }
    check_eq!(set(&mut idle), Ok(()), "watching for the first time");
}
