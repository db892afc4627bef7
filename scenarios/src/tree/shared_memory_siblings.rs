//! Two processes with one memory, whose parent, which has made them, is gone.
//!
//! Verified: they are children of the subreaper, and one sees what the other writes.
//! CRIU: refuses to dump them.

use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// What the two share.
struct Common {
    go: sys::CPath,
    turn: AtomicI32,
}

/// Waits for the turn `own`, and gives the next.
fn take_turn(common: &Common, own: i32) -> i32 {
    while !common.go.exists() {
        sys::nap(Duration::from_millis(5));
    }
    for _ in 0..1000 {
        if common.turn.compare_exchange(own, own + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return 7;
        }
        sys::nap(Duration::from_millis(5));
    }
    8
}

fn run(cx: &mut Context) {
    sys::become_subreaper();
    let made = cx.path("made");
    let middle = cx.fork(|cx| {
        let go = sys::CPath::new(&cx.path("go"));
        let common: &'static Common = Box::leak(Box::new(Common { go, turn: AtomicI32::new(0) }));
        let first = sys::clone_vm(0, |common| take_turn(common, 0), common);
        let second = sys::clone_vm(0, |common| take_turn(common, 1), common);
        std::fs::write(&made, format!("{first} {second}")).expect("a file");
    });
    cx.reap(middle);
    let made = std::fs::read_to_string(cx.path("made")).expect("a file");
    let pids: Vec<i32> = made.split(' ').filter_map(|pid| pid.parse().ok()).collect();
    cx.ready_and_wait();
    // The second is waited for first: it depends on the other.
    for &pid in pids.iter().rev() {
        check_eq!(sys::wait_status(pid), Ok(7 << 8), "wait status of {pid}");
    }
}
