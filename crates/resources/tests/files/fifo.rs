//! Fifos.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use rustix::io::Errno;
use rustix::pipe::fcntl_setpipe_size;

use crate::round_trip::{Dump, assert_same, round_trip};

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn opened(path: &Path, flags: OFlags) -> OwnedFd {
    open(path, flags, Mode::empty()).unwrap()
}

fn read(file: impl AsFd, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let got = rustix::io::read(file, &mut bytes[..]).unwrap();
    bytes.truncate(got);
    bytes
}

fn hung_up(file: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&file, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
    fds[0].revents().contains(PollFlags::HUP)
}

#[test]
fn all_ends_come_back_with_what_is_between() {
    for unlinked in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        fifo(&path);
        let both = opened(&path, OFlags::RDWR);
        let from = opened(&path, OFlags::RDONLY | OFlags::NONBLOCK);
        let to = opened(&path, OFlags::WRONLY | OFlags::APPEND);
        let place = opened(&path, OFlags::PATH | OFlags::NOFOLLOW);
        fcntl_setpipe_size(&to, 8192).unwrap();
        rustix::io::write(&to, b"asleep").unwrap();
        if unlinked {
            fs::remove_file(&path).unwrap();
        }
        let all = [from.as_fd(), to.as_fd(), both.as_fd(), place.as_fd()];
        let mut dump = Dump::new();
        for file in all {
            dump.descriptor(file);
        }
        let (images, shared) = dump.write().unwrap();
        if !unlinked {
            // Nobody keeps what is in it.
            assert_eq!(read(&from, 100), b"asleep");
        }
        let restored = images.restore(&shared, &[]).unwrap();
        for old in all {
            assert_same(old, restored.of(old));
        }
        assert_eq!(read(restored.of(&from), 3), b"asl");
        rustix::io::write(restored.of(&to), b" again").unwrap();
        assert_eq!(read(restored.of(&both), 100), b"eep again");
        assert_eq!(path.exists(), !unlinked);
    }
}

#[test]
fn a_reader_hangs_up_only_if_it_has_met_a_writer() {
    let dir = tempfile::tempdir().unwrap();
    for (met, bytes) in [(false, &b""[..]), (true, b""), (true, b"abc"), (false, b"abc")] {
        let path = dir.path().join(format!("{met} {}", bytes.len()));
        fifo(&path);
        let first = opened(&path, OFlags::RDONLY | OFlags::NONBLOCK);
        if met || !bytes.is_empty() {
            rustix::io::write(opened(&path, OFlags::WRONLY), bytes).unwrap();
        }
        // This one has not met the writer.
        let second = opened(&path, OFlags::RDONLY | OFlags::NONBLOCK);
        let mut kept = vec![second.as_fd()];
        if met {
            kept.push(first.as_fd());
        }
        // The ends that are made anew are of the same fifo as these.
        let before: Vec<_> = kept.iter().map(hung_up).collect();
        let restored = {
            let mut dump = Dump::new();
            for file in &kept {
                dump.descriptor(file);
            }
            let (images, shared) = dump.write().unwrap();
            let drained = read(&first, 100);
            assert_eq!(drained, bytes);
            images.restore(&shared, &[]).unwrap()
        };
        let after: Vec<_> = kept.iter().map(|old| hung_up(restored.of(old))).collect();
        assert_eq!(after, before, "met {met}, {bytes:?}");
        assert!(!before[0] && before.get(1).is_none_or(|&hung_up| hung_up));
        assert_eq!(read(restored.of(&second), 100), bytes);
    }
}

#[test]
fn a_writer_alone_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    fifo(&path);
    let both = opened(&path, OFlags::RDWR);
    let to = opened(&path, OFlags::WRONLY);
    drop(both);
    let restored = round_trip(&[to.as_fd()]).unwrap();
    assert_eq!(rustix::io::write(restored.of(&to), b"x"), Err(Errno::PIPE));
}

#[test]
fn what_nobody_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    fifo(&path);
    let both = opened(&path, OFlags::RDWR);
    let to = opened(&path, OFlags::WRONLY);
    rustix::io::write(&to, b"x").unwrap();
    drop(both);
    let error = round_trip(&[to.as_fd()]).map(drop).unwrap_err().to_string();
    assert!(error.contains("nobody has it open for reading"), "{error}");
}

#[test]
fn what_others_keep_in_it_is_not_doubled() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    fifo(&path);
    let outside = opened(&path, OFlags::RDWR);
    let from = opened(&path, OFlags::RDONLY | OFlags::NONBLOCK);
    rustix::io::write(&outside, b"once").unwrap();
    let restored = round_trip(&[from.as_fd()]).unwrap();
    assert_eq!(read(restored.of(&from), 100), b"once");
    assert_eq!(rustix::io::read(restored.of(&from), &mut [0]), Err(Errno::AGAIN));
}
