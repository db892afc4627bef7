//! An io_uring with a request that waits for a futex: nothing tells of it but the kernel's memory.
//!
//! Verified: the dump is refused, naming process, descriptor and kind; the target goes on and the request
//! completes.
//! CRIU: refuses.

use std::sync::atomic::AtomicU32;

use crate::io_uring::missing;
use crate::sys::io_uring::{Completion, FUTEX_WAIT, FUTEX_WAKE, Request, Ring};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused("io_uring").missing(missing);

/// `FUTEX2_SIZE_U32` and `FUTEX2_PRIVATE`.
const PRIVATE: i32 = 2 | 128;

fn run(cx: &mut Context) {
    let ring = Ring::setup(4, 0, 0).expect("io_uring_setup").at(42);
    let futex = AtomicU32::new(5);
    let on = Request {
        fd: PRIVATE,
        address: futex.as_ptr() as u64,
        more: [u32::MAX.into(), 0],
        ..Request::default()
    };
    ring.push(&Request { operation: FUTEX_WAIT, offset: 5, data: 7, ..on });
    check_eq!(ring.enter(1, 0).ok(), Some(1), "requests taken");

    cx.ready_and_wait();

    check_eq!(ring.next(), None, "a completion before anything has happened");
    ring.push(&Request { operation: FUTEX_WAKE, offset: 1, data: 8, ..on });
    check_eq!(ring.enter(1, 2).ok(), Some(1), "the wake");
    let mut both = [ring.next(), ring.next()];
    both.sort_unstable_by_key(|it| it.map(|it| it.data));
    let completion = |data, result| Some(Completion { data, result, flags: 0 });
    check_eq!(both, [completion(7, 0), completion(8, 1)], "completions");
}
