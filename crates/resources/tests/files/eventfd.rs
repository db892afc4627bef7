//! Eventfds.

use std::os::fd::AsFd;

use rustix::event::{EventfdFlags, eventfd};

use crate::round_trip::{assert_same, is_same_description, round_trip};

fn take(file: impl AsFd) -> u64 {
    let mut count = [0; 8];
    rustix::io::read(file, &mut count[..]).unwrap();
    u64::from_ne_bytes(count)
}

#[test]
fn counters_come_back() {
    let nonblocking = EventfdFlags::NONBLOCK;
    for (count, flags) in [
        (0, nonblocking),
        (1, EventfdFlags::empty()),
        (u64::from(u32::MAX) + 7, nonblocking),
        (u64::MAX - 1, nonblocking | EventfdFlags::CLOEXEC),
    ] {
        let old = eventfd(0, flags).unwrap();
        rustix::io::write(&old, &count.to_ne_bytes()).unwrap();
        let restored = round_trip(&[old.as_fd()]).unwrap();
        let new = restored.of(&old);
        assert_same(&old, new);
        if count > 0 {
            assert_eq!(take(new), count);
            assert_eq!(take(&old), count, "the dump has changed nothing");
        }
    }
}

#[test]
fn semaphores_stay_semaphores() {
    let old = eventfd(3, EventfdFlags::SEMAPHORE | EventfdFlags::NONBLOCK).unwrap();
    let restored = round_trip(&[old.as_fd()]).unwrap();
    let new = restored.of(&old);
    for _ in 0..3 {
        assert_eq!(take(new), 1);
    }
    assert_eq!(rustix::io::read(new, &mut [0; 8]), Err(rustix::io::Errno::AGAIN));
}

#[test]
fn duplicates_stay_one_and_others_apart() {
    let (one, other) =
        (eventfd(0, EventfdFlags::empty()).unwrap(), eventfd(0, EventfdFlags::empty()).unwrap());
    let duplicate = one.try_clone().unwrap();
    let restored = round_trip(&[one.as_fd(), other.as_fd(), duplicate.as_fd()]).unwrap();
    assert!(is_same_description(restored.of(&one), restored.of(&duplicate)));
    assert!(!is_same_description(restored.of(&one), restored.of(&other)));
}
