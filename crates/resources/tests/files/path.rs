//! Files by their path.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;

use dormouse_kernel::NsPid;
use dormouse_kernel::clone::{CloneFlags, spawn_bare};
use dormouse_kernel::proc::Entry;
use rustix::fs::{Mode, OFlags, SeekFrom, open, seek};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::round_trip::{Dump, assert_same, is_same_description, number, round_trip};

#[test]
fn files_of_all_sorts_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a (deleted)");
    fs::write(&path, b"0123456789").unwrap();
    symlink("nowhere", dir.path().join("link")).unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    let opened = |name: &str, flags| open(dir.path().join(name), flags, Mode::empty()).unwrap();
    let files = [
        opened("a (deleted)", OFlags::RDONLY),
        opened("a (deleted)", OFlags::WRONLY | OFlags::APPEND),
        opened("a (deleted)", OFlags::RDWR | OFlags::SYNC | OFlags::NOFOLLOW),
        opened("a (deleted)", OFlags::RDWR | OFlags::DSYNC | OFlags::NONBLOCK),
        opened("a (deleted)", OFlags::RDONLY | OFlags::DIRECT | OFlags::NOATIME),
        opened("a (deleted)", OFlags::PATH),
        opened("link", OFlags::PATH | OFlags::NOFOLLOW),
        opened("dir", OFlags::RDONLY | OFlags::DIRECTORY),
        opened("dir", OFlags::PATH | OFlags::DIRECTORY),
        opened("/dev/null", OFlags::RDWR),
        opened("/dev/zero", OFlags::RDONLY),
        opened("/dev/full", OFlags::WRONLY),
        opened("/dev/random", OFlags::RDONLY),
        opened("/dev/urandom", OFlags::RDONLY),
        opened("/dev/ptmx", OFlags::PATH),
        opened("/proc/self/status", OFlags::RDONLY),
        opened("/proc/self", OFlags::RDONLY),
        opened("/sys/kernel", OFlags::RDONLY),
        opened("/proc/sys/kernel/hostname", OFlags::RDONLY),
    ];
    seek(&files[0], SeekFrom::Start(3)).unwrap();
    seek(&files[2], SeekFrom::Start(1 << 40)).unwrap();
    rustix::io::read(&files[15], &mut [0; 7]).unwrap();
    let all: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    let restored = round_trip(&all).unwrap();
    for old in &files {
        let new = restored.of(old);
        assert_same(old, new);
        let link = |file: &dyn std::os::fd::AsRawFd| {
            fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap()
        };
        assert_eq!(link(old), link(new));
    }
}

#[test]
fn a_directory_is_read_on_where_it_was_left() {
    let dir = tempfile::tempdir().unwrap();
    for name in 0..300 {
        fs::write(dir.path().join(format!("file {name}")), b"").unwrap();
    }
    let names = |file: &std::os::fd::OwnedFd| {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 1024];
        let mut entries = rustix::fs::RawDir::new(file, &mut buffer);
        let mut names = Vec::new();
        // One buffer full.
        loop {
            names.push(entries.next().unwrap().unwrap().file_name().to_owned());
            if entries.is_buffer_empty() {
                return names;
            }
        }
    };
    let old = open(dir.path(), OFlags::RDONLY, Mode::empty()).unwrap();
    let first = names(&old);
    let restored = round_trip(&[old.as_fd()]).unwrap();
    let second = names(restored.of(&old));
    assert_ne!(first, second);
    assert_eq!(second, names(&old));
}

#[test]
fn descriptions_are_shared_as_before() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let one = open(file.path(), OFlags::RDWR, Mode::empty()).unwrap();
    let duplicate = one.try_clone().unwrap();
    let other = open(file.path(), OFlags::RDWR, Mode::empty()).unwrap();
    let restored = round_trip(&[one.as_fd(), duplicate.as_fd(), other.as_fd()]).unwrap();
    assert!(is_same_description(restored.of(&one), restored.of(&duplicate)));
    assert!(!is_same_description(restored.of(&one), restored.of(&other)));
}

#[test]
fn a_file_that_has_changed_is_an_error() {
    type Change = fn(&std::path::Path);
    let changes: [(Change, &str); 3] = [
        (|path| fs::write(path, b"longer").unwrap(), "has 6 bytes, and had 4"),
        (|path| fs::remove_file(path).unwrap(), "is missing"),
        (
            |path| {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(path, fs::Permissions::from_mode(0o604)).unwrap();
            },
            "has mode 100604, and had 100600",
        ),
    ];
    for (change, message) in changes {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"four").unwrap();
        let fd = open(file.path(), OFlags::RDONLY, Mode::empty()).unwrap();
        let mut dump = Dump::new();
        dump.descriptor(&fd);
        let (images, shared) = dump.write().unwrap();
        change(file.path());
        let error = images.restore(&shared, &[]).map(drop).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn a_log_may_have_grown() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let fd = open(file.path(), OFlags::WRONLY | OFlags::APPEND, Mode::empty()).unwrap();
    let mut dump = Dump::new();
    dump.descriptor(&fd);
    let (images, shared) = dump.write().unwrap();
    fs::write(file.path(), b"more").unwrap();
    let restored = images.restore(&shared, &[]).unwrap();
    rustix::io::write(restored.of(&fd), b" and more").unwrap();
    assert_eq!(fs::read(file.path()).unwrap(), b"more and more");
}

#[test]
fn executable_and_directories_in_use_are_opened() {
    let mut dump = Dump::new();
    let links = ["exe", "cwd", "root"].map(|name| {
        (dump.link(Entry::Named(name), OFlags::PATH), fs::read_link(format!("/proc/self/{name}")))
    });
    let (images, shared) = dump.write().unwrap();
    let wanted = links.each_ref().map(|&(id, _)| (id, OFlags::PATH));
    let restored = images.restore(&shared, &wanted).unwrap();
    for ((_, path), file) in links.iter().zip(&restored.inodes) {
        let fd = number(file).as_raw();
        assert_eq!(&fs::read_link(format!("/proc/self/fd/{fd}")).unwrap(), path.as_ref().unwrap());
    }
}

#[test]
fn what_cannot_be_saved_is_named() {
    let terminal = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR).unwrap();
    // A lower number is free, and the one it has is not.
    let (lower, terminal) =
        (terminal, rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR).unwrap());
    drop(lower);
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let device = open("/dev/mem", OFlags::RDONLY, Mode::empty());
    let cases = [(terminal.as_fd(), "a terminal"), (socket.as_fd(), "a unix socket")];
    for (file, message) in cases {
        let error = round_trip(&[file]).map(drop).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
    if let Ok(device) = device {
        let error = round_trip(&[device.as_fd()]).map(drop).unwrap_err().to_string();
        assert!(error.contains("/dev/mem"), "{error}");
    }
}

#[test]
fn what_is_about_a_stranger_is_not_about_another() {
    let mut stranger = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let directory = format!("/proc/{}", stranger.id());
    let paths = [format!("{directory}/stat"), format!("{directory}/task"), directory.clone()];
    let files = paths.map(|path| open(path, OFlags::RDONLY, Mode::empty()).unwrap());
    let mut dump = Dump::new();
    for file in &files {
        dump.descriptor(file);
    }
    let (images, shared) = dump.write().unwrap();
    let restored = images.restore(&shared, &[]).unwrap();
    files.iter().for_each(|file| assert_same(file, restored.of(file)));

    stranger.kill().unwrap();
    stranger.wait().unwrap();
    let error = |found: dormouse_resources::Result<_>| {
        let error = found.err().map(|error| error.to_string());
        error.expect("it cannot be restored")
    };
    assert!(error(images.restore(&shared, &[]).map(drop)).contains("is missing"));
    // Somebody else with the number, who has not begun in the same tick of the clock.
    std::thread::sleep(std::time::Duration::from_millis(30));
    let number = NsPid::from_raw(stranger.id().cast_signed()).unwrap();
    let other = spawn_bare(&[number], CloneFlags::empty()).unwrap();
    let found = error(images.restore(&shared, &[]).map(drop));
    let other = Pid::from_raw(other.as_raw()).unwrap();
    kill_process(other, Signal::KILL).unwrap();
    waitpid(Some(other), WaitOptions::empty()).unwrap();
    assert!(found.contains("another process"), "{found}");
}

#[test]
fn another_build_of_a_program_is_told_by_its_id() {
    const NOTE: &[u8] = b"\x03\0\0\0GNU\0";
    let dir = tempfile::tempdir().unwrap();
    let (program, text) = (dir.path().join("program"), dir.path().join("text"));
    let mut bytes = fs::read("/bin/sh").unwrap();
    let Some(note) = bytes.windows(NOTE.len()).position(|window| window == NOTE) else {
        eprintln!("skipped: the shell has no build ID");
        return;
    };
    fs::write(&program, &bytes).unwrap();
    fs::write(&text, "no program").unwrap();
    let files = [&program, &text].map(|path| open(path, OFlags::RDONLY, Mode::empty()).unwrap());
    let images = |build_ids| {
        let mut dump = Dump::new();
        dump.options.build_ids = build_ids;
        for file in &files {
            dump.descriptor(file);
        }
        dump.write().unwrap()
    };
    let (noted, shared) = images(true);
    let (bare, _) = images(false);
    let restored = noted.restore(&shared, &[]).unwrap();
    files.iter().for_each(|file| assert_same(file, restored.of(file)));

    bytes[note + NOTE.len()] ^= 1;
    fs::write(&program, &bytes).unwrap();
    fs::write(&text, "NO PROGRAM").unwrap();
    let error = noted.restore(&shared, &[]).map(drop).unwrap_err().to_string();
    assert!(error.contains("another build ID"), "{error}");
    bare.restore(&shared, &[]).unwrap();
}
