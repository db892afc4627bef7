//! Timeouts, from now on and at a moment, by each clock; also while the task waits for one.
//!
//! Verified: each is over once, not sooner than it should be and not much later.
//! CRIU: refuses.

use std::time::{Duration, Instant};

use crate::sys::io_uring::{Completion, Request, Ring, TIMEOUT};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).missing(super::missing);

const TIME: Duration = Duration::from_secs(4);
/// What a machine with other things to do may take.
const SLACK: Duration = Duration::from_secs(6);
const ABSOLUTE: u32 = 1;
const BOOTTIME: u32 = 1 << 2;
const REALTIME: u32 = 1 << 3;

fn now(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 + 1
}

fn run(cx: &mut Context) {
    let ring = Ring::setup(8, 0, 0).expect("io_uring_setup");
    let begun = Instant::now();
    let (boot, real) = (now(libc::CLOCK_BOOTTIME), now(libc::CLOCK_REALTIME));
    let kinds = [
        (0, 0),
        (BOOTTIME, 0),
        (REALTIME, 0),
        (ABSOLUTE | BOOTTIME, boot),
        (ABSOLUTE | REALTIME, real),
    ];
    for (data, (operation_flags, from)) in (1..).zip(kinds) {
        let time = [from + TIME.as_secs(), 0];
        let (address, len) = (time.as_ptr() as u64, 1);
        let timeout = Request { operation: TIMEOUT, address, len, ..Request::default() };
        ring.push(&Request { operation_flags, data, ..timeout });
        check_eq!(ring.enter(1, 0).ok(), Some(1), "requests taken");
    }

    let held = cx.ready_and_wait();

    let mut over = Vec::new();
    while over.len() < kinds.len() {
        check_eq!(ring.enter(0, 1).ok(), Some(0), "the wait");
        while let Some(Completion { data, result, flags: 0 }) = ring.next() {
            check_eq!(result, -libc::ETIME, "the end of a timeout");
            over.push(data);
        }
        let passed = begun.elapsed();
        check!(passed >= TIME, "{over:?} are over after {passed:?}");
        check!(passed < TIME + held + SLACK, "{over:?} are over after {passed:?}");
    }
    over.sort_unstable();
    check_eq!(over, [1, 2, 3, 4, 5], "timeouts that are over");
    check_eq!(ring.enter(0, 0).ok(), Some(0), "a look");
    check_eq!(ring.next(), None, "one more");
}
