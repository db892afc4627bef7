//! A fanotify with marks on a file, a directory, a deleted file, a mount and a file system, some of
//! which ignore events in both ways that there are.
//!
//! Verified: that exactly what is marked and not ignored is reported afterwards; that marks can be
//! taken off; that answers may still be audited.
//! CRIU: knows no marks on file systems.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use libc::{
    FAN_CLASS_CONTENT, FAN_CLOEXEC, FAN_CLOSE_WRITE, FAN_ENABLE_AUDIT, FAN_EVENT_ON_CHILD,
    FAN_MARK_ADD, FAN_MARK_FILESYSTEM, FAN_MARK_IGNORE_SURV, FAN_MARK_IGNORED_MASK, FAN_MARK_MOUNT,
    FAN_MARK_REMOVE, FAN_MODIFY, FAN_NONBLOCK, FAN_OPEN, O_CLOEXEC, O_LARGEFILE, O_RDONLY, O_RDWR,
};
use rustix::io::{Errno, read, write};

use crate::facts::Users;
use crate::sys::done;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .users(Users::Root)
    .faults()
    .differs(&[("*/fd/*/info", "a deleted file comes back as another inode")]);

pub(crate) fn init(flags: u32, event_flags: i32) -> std::io::Result<OwnedFd> {
    // SAFETY: plain numbers; the descriptor is new.
    unsafe {
        let fd = done(libc::syscall(libc::SYS_fanotify_init, flags, event_flags))?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

pub(crate) fn mark(group: &OwnedFd, flags: u32, mask: u64, path: &Path) -> std::io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).expect("no zero byte");
    // SAFETY: the path lives over the call.
    let marked = unsafe {
        let (group, path) = (group.as_raw_fd(), path.as_ptr());
        libc::syscall(libc::SYS_fanotify_mark, group, flags, mask, libc::AT_FDCWD, path)
    };
    done(marked).map(drop)
}

/// The mask of each event, who caused it, and what is behind its head; in the
/// order of their happening.
pub(crate) fn events(group: &OwnedFd) -> Vec<(u64, i32, i32, Vec<u8>)> {
    let mut events = Vec::new();
    let mut room = [0; 4096];
    loop {
        let len = match read(group, &mut room) {
            Ok(len) => len,
            Err(Errno::AGAIN) => return events,
            Err(error) => {
                check!(false, "reading events: {error}");
                return events;
            }
        };
        let mut rest = &room[..len];
        while let Some(word) = rest.first_chunk() {
            let (event, after) = rest.split_at(u32::from_ne_bytes(*word) as usize);
            let mask = u64::from_ne_bytes(event[8..16].try_into().expect("8 bytes"));
            let number = |at| i32::from_ne_bytes(event[at..at + 4].try_into().expect("4 bytes"));
            events.push((mask, number(16), number(20), event[24..].to_vec()));
            rest = after;
        }
    }
}

/// What this process did, and to which files. Others use the file system too, and what they have done
/// may be lost.
fn own(group: &OwnedFd) -> Vec<(u64, PathBuf)> {
    let mut own = Vec::new();
    for (mask, fd, pid, _) in events(group) {
        if mask == libc::FAN_Q_OVERFLOW {
            continue;
        }
        // SAFETY: the descriptor is new.
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        if pid == std::process::id().cast_signed() {
            let link = format!("/proc/self/fd/{}", file.as_raw_fd());
            own.push((mask, fs::read_link(link).expect("readlink")));
        }
    }
    own
}

/// Would an answer to no request be audited?
fn is_audited(group: &OwnedFd) -> bool {
    let mut answer = i32::MAX.to_ne_bytes().to_vec();
    answer.extend((libc::FAN_ALLOW | libc::FAN_AUDIT).to_ne_bytes());
    write(group, &answer) == Err(Errno::NOENT)
}

fn run(cx: &mut Context) {
    let (dir, file, gone) = (cx.path("marked"), cx.path("file"), cx.path("gone"));
    let child = dir.join("child");
    fs::create_dir(&dir).expect("mkdir");
    let inode = fs::metadata(&dir).expect("stat").ino();
    let shared = PathBuf::from(format!("/dev/shm/dormouse-fanotify-{inode}"));
    for path in [&file, &child, &gone, &shared] {
        fs::write(path, b"x").expect("write");
    }
    let flags = FAN_NONBLOCK | FAN_CLASS_CONTENT | FAN_ENABLE_AUDIT;
    let group = init(flags, O_RDONLY | O_LARGEFILE | O_CLOEXEC).expect("fanotify_init");
    let plain = init(FAN_CLOEXEC | FAN_NONBLOCK, O_RDWR).expect("fanotify_init");
    let mark = |flags, mask, path: &Path| mark(&group, flags, mask, path).expect("fanotify_mark");
    mark(FAN_MARK_ADD, FAN_MODIFY, &file);
    mark(FAN_MARK_ADD, FAN_OPEN | FAN_CLOSE_WRITE | FAN_EVENT_ON_CHILD, &dir);
    // The first write wipes out what is ignored, as it is not to survive that.
    mark(FAN_MARK_ADD | FAN_MARK_IGNORED_MASK, FAN_CLOSE_WRITE, &child);
    mark(FAN_MARK_ADD, FAN_MODIFY, &gone);
    mark(FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_MODIFY, Path::new("/dev/shm"));
    mark(FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_CLOSE_WRITE, Path::new("/dev/shm"));
    mark(FAN_MARK_ADD | FAN_MARK_IGNORE_SURV, FAN_MODIFY, &shared);
    let mut open = OpenOptions::new().write(true).open(&gone).expect("open");
    fs::remove_file(&gone).expect("unlink");

    cx.ready_and_wait();

    check_eq!(own(&group), [], "events while nothing happened");
    let touch = |path: &Path| {
        File::options().append(true).open(path).and_then(|mut file| file.write_all(b"y"))
    };
    touch(&file).expect("write");
    check_eq!(own(&group), [(FAN_MODIFY, file.clone())], "events of the file");
    File::open(&child).expect("open");
    check_eq!(own(&group), [(FAN_OPEN, child.clone())], "events of opening a child");
    touch(&child).expect("write");
    let expected = (FAN_OPEN | FAN_CLOSE_WRITE, child.clone());
    check_eq!(own(&group), [expected], "events of writing to a child");
    touch(&shared).expect("write");
    check_eq!(own(&group), [(FAN_CLOSE_WRITE, shared.clone())], "events of the file system");
    open.write_all(b"y").expect("write");
    let found: Vec<u64> = own(&group).into_iter().map(|(mask, _)| mask).collect();
    check_eq!(found, [FAN_MODIFY], "events of the deleted file");
    mark(FAN_MARK_REMOVE | FAN_MARK_MOUNT, FAN_MODIFY, Path::new("/dev/shm"));
    mark(FAN_MARK_REMOVE, FAN_MODIFY, &file);
    touch(&file).expect("write");
    check_eq!(own(&group), [], "events without a mark");
    check!(is_audited(&group), "answers are not audited any more");
    check!(!is_audited(&plain), "answers are audited now");
    fs::remove_file(&shared).expect("unlink");
}
