//! Files that have lost their names, which others have since: one of a name as long as names can be,
//! one that another name is left of, a directory, a file in a directory where a file is now, and the
//! program of a process, as one that was upgraded.
//!
//! Verified: content, and that it is the file of the other name; the last part of the names; that
//! the others are untouched, and nothing else is in the directory.
//! CRIU: refuses to restore what it cannot give its name.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .differs(&[
        ("*/link", "the name is another's, so the file is opened in a directory beside it"),
        ("*/exe", "the same"),
        ("*/map/*", "the same, of the program"),
    ])
    .faults();

fn last(link: &Path) -> String {
    let link = fs::read_link(link).expect("readlink");
    link.file_name().expect("it has a name").to_string_lossy().into_owned()
}

fn of(file: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

fn run(cx: &mut Context) {
    let long = "l".repeat(255);
    let dir = cx.path("dir");
    fs::create_dir(&dir).expect("mkdir");
    let taken = |name: &str| {
        let path = dir.join(name);
        fs::write(&path, name).expect("write");
        let file = File::open(&path).expect("open");
        (path, file)
    };
    let replaced = |(path, file): (PathBuf, File)| {
        fs::remove_file(&path).expect("unlink");
        fs::write(&path, "other").expect("write");
        file
    };
    let long_one = replaced(taken(&long));
    let linked = taken("linked");
    fs::hard_link(&linked.0, dir.join("kept")).expect("link");
    let linked = replaced(linked);
    fs::create_dir(dir.join("gone")).expect("mkdir");
    let open = |path: &str| -> OwnedFd {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::open(dir.join(path), flags, Mode::empty()).expect("open")
    };
    let within = taken("gone/within");
    let directory = open("gone");
    fs::remove_file(&within.0).expect("unlink");
    fs::remove_dir(dir.join("gone")).expect("rmdir");
    fs::write(dir.join("gone"), "other").expect("write");

    let program = dir.join("program");
    fs::copy("/bin/cat", &program).expect("copy");
    let mut child = Command::new(&program);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run");
    let exe = PathBuf::from(format!("/proc/{}/exe", child.id()));
    crate::context::until("the program", || fs::read_link(&exe).is_ok_and(|exe| exe == program));
    cx.await_blocked(child.id().cast_signed(), libc::SYS_read);
    fs::remove_file(&program).expect("unlink");
    fs::write(&program, "other").expect("write");

    cx.ready_and_wait();

    for (file, name) in
        [(&long_one, long.as_str()), (&linked, "linked"), (&within.1, "gone/within")]
    {
        let mut bytes = vec![0; name.len()];
        check_eq!(file.read_at(&mut bytes, 0).ok(), Some(name.len()), "length of {name}");
        check!(bytes == name.as_bytes(), "content of {name}");
    }
    let inode = |file: std::io::Result<fs::Metadata>| file.map(|file| file.ino()).ok();
    check_eq!(
        inode(linked.metadata()),
        inode(fs::metadata(dir.join("kept"))),
        "inode by the name left"
    );
    check_eq!(last(&of(&long_one)), format!("{long} (deleted)"), "name of the long one");
    check_eq!(last(&of(&linked)), "linked (deleted)", "name of the linked one");
    check_eq!(last(&of(&within.1)), "within (deleted)", "name of the one in a directory");
    check_eq!(last(&of(&directory)), "gone (deleted)", "name of the directory");
    check_eq!(last(&exe), "program (deleted)", "name of the program");
    drop(child.stdin.take());
    check!(child.wait().is_ok_and(|status| status.success()), "the program does not end well");

    let names =
        fs::read_dir(&dir).expect("it is there").map(|entry| entry.expect("entry").file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    check_eq!(names, ["gone", "kept", "linked", &long, "program"], "what is in the directory");
    for name in ["gone", "linked", &long, "program"] {
        let text = fs::read_to_string(dir.join(name)).ok();
        check_eq!(text.as_deref(), Some("other"), "content of what has the name {name}");
    }
}
