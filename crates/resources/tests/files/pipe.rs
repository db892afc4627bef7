//! Pipes.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use dormouse_kernel::file_owner::{Owner, OwnerKind, set_owner, set_signal};
use dormouse_kernel::signal::Signal;
use rustix::fs::{Mode, OFlags, fcntl_setfl, fstat, open};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe, pipe_with};

use crate::round_trip::{assert_same, is_same_description, me, round_trip};

fn path_of(file: impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()).into()
}

fn read(file: impl AsFd, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let got = rustix::io::read(file, &mut bytes[..]).unwrap();
    bytes.truncate(got);
    bytes
}

#[test]
fn both_ends_come_back_with_what_is_between() {
    let (from, to) = pipe().unwrap();
    fcntl_setpipe_size(&to, 8192).unwrap();
    rustix::io::write(&to, b"asleep").unwrap();
    let restored = round_trip(&[from.as_fd(), to.as_fd()]).unwrap();
    let (new_from, new_to) = (restored.of(&from), restored.of(&to));
    assert_same(&from, new_from);
    assert_same(&to, new_to);
    assert_eq!(fcntl_getpipe_size(new_from).unwrap(), 8192);
    assert_ne!(fstat(&from).unwrap().st_ino, fstat(new_from).unwrap().st_ino);
    assert_eq!(fstat(new_from).unwrap().st_ino, fstat(new_to).unwrap().st_ino);
    rustix::io::write(new_to, b" and awake").unwrap();
    assert_eq!(read(new_from, 100), b"asleep and awake");
    assert_eq!(read(&from, 100), b"asleep");
}

#[test]
fn an_end_that_is_closed_stays_closed() {
    let (from, to) = pipe().unwrap();
    rustix::io::write(&to, b"last words").unwrap();
    drop(to);
    let restored = round_trip(&[from.as_fd()]).unwrap();
    assert_eq!(read(restored.of(&from), 100), b"last words");
    assert_eq!(read(restored.of(&from), 100), b"");

    let (from, to) = pipe().unwrap();
    drop(from);
    let restored = round_trip(&[to.as_fd()]).unwrap();
    assert_eq!(rustix::io::write(restored.of(&to), b"x"), Err(Errno::PIPE));
}

#[test]
fn odd_ends_come_back() {
    let (from, to) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
    let both = open(path_of(&from), OFlags::RDWR, Mode::empty()).unwrap();
    let second = open(path_of(&from), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
    let place = open(path_of(&from), OFlags::PATH, Mode::empty()).unwrap();
    let all = [both.as_fd(), second.as_fd(), from.as_fd(), to.as_fd(), place.as_fd()];
    let restored = round_trip(&all).unwrap();
    for old in all {
        assert_same(old, restored.of(old));
    }
    rustix::io::write(restored.of(&both), b"abc").unwrap();
    assert_eq!(read(restored.of(&second), 1), b"a");
    assert_eq!(read(restored.of(&from), 1), b"b");
    assert_eq!(read(restored.of(&both), 1), b"c");
}

#[test]
fn packets_stay_apart() {
    let (from, to) = pipe_with(PipeFlags::DIRECT).unwrap();
    for packet in [&b"one"[..], b"three", b"x"] {
        rustix::io::write(&to, packet).unwrap();
    }
    let restored = round_trip(&[from.as_fd(), to.as_fd()]).unwrap();
    let (new_from, new_to) = (restored.of(&from), restored.of(&to));
    assert_same(&to, new_to);
    rustix::io::write(new_to, b"more").unwrap();
    for packet in [&b"one"[..], b"three", b"x", b"more"] {
        assert_eq!(read(new_from, 100), packet);
    }
}

#[test]
fn owner_and_signal_come_back_and_nobody_is_signalled() {
    let (from, to) = pipe().unwrap();
    set_owner(&from, Owner { kind: OwnerKind::Process, pid: me() }).unwrap();
    // The default action of this one is to ignore it.
    set_signal(&from, Some(Signal::URG)).unwrap();
    fcntl_setfl(&from, OFlags::ASYNC | OFlags::NONBLOCK).unwrap();
    rustix::io::write(&to, b"x").unwrap();
    let restored = round_trip(&[from.as_fd(), to.as_fd()]).unwrap();
    assert_same(&from, restored.of(&from));
    assert_same(&to, restored.of(&to));
}

#[test]
fn an_owner_outside_is_refused() {
    let (from, _to) = pipe().unwrap();
    let init = dormouse_kernel::HostPid::from_raw(1).unwrap();
    set_owner(&from, Owner { kind: OwnerKind::Process, pid: init }).unwrap();
    let error = round_trip(&[from.as_fd()]).map(drop).unwrap_err().to_string();
    assert!(error.contains("not part of the checkpoint"), "{error}");
}

/// Readers and writers in every order, those that `pipe2(2)` made among
/// others.
#[test]
fn the_order_of_the_ends_does_not_matter() {
    let again = |file: &OwnedFd, flags| open(path_of(file), flags, Mode::empty()).unwrap();
    for order in 0..24 {
        let (from, to) = pipe().unwrap();
        let second = again(&from, OFlags::RDONLY);
        let both = again(&from, OFlags::RDWR);
        let mut left = vec![from, to, second, both];
        let (mut ends, mut order) = (Vec::new(), order);
        while !left.is_empty() {
            ends.push(left.remove(order % left.len()));
            order /= left.len() + 1;
        }
        let restored = round_trip(&ends.iter().map(AsFd::as_fd).collect::<Vec<_>>()).unwrap();
        for (index, one) in ends.iter().enumerate() {
            assert_same(one, restored.of(one));
            for other in &ends[..index] {
                assert!(!is_same_description(restored.of(one), restored.of(other)));
            }
        }
    }
}

#[test]
fn many_pipes_do_not_run_out_of_descriptors() {
    let pipes: Vec<(OwnedFd, OwnedFd)> = (0..200).map(|_| pipe().unwrap()).collect();
    // All to be read first, so that as many as can be are half made.
    let ends = pipes.iter().map(|(from, _)| from.as_fd());
    let ends: Vec<_> = ends.chain(pipes.iter().map(|(_, to)| to.as_fd())).collect();
    let restored = round_trip(&ends).unwrap();
    for (index, (from, to)) in pipes.iter().enumerate() {
        rustix::io::write(restored.of(to), &[index as u8]).unwrap();
        assert_eq!(read(restored.of(from), 10), [index as u8]);
    }
}
