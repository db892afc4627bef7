//! Rings set up in every way: by one task alone, work deferred, large requests and completions, no
//! array, disabled at first.
//!
//! Verified: requests go through; only the task that may submit can, and that is a thread for one of them.
//! CRIU: refuses.

use std::sync::{Arc, Mutex};

use crate::sys::io_uring::{
    COOP_TASKRUN, CQE32, DEFER_TASKRUN, NO_SQARRAY, NOP, R_DISABLED, Request, Ring, SINGLE_ISSUER,
    SQE128, SUBMIT_ALL, TASKRUN_FLAG,
};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults().missing(missing);

fn missing() -> Option<String> {
    let works = Ring::setup(1, 0, NO_SQARRAY).is_ok();
    (!works).then(|| "there are no rings without an array".into())
}

const ENABLE_RINGS: u32 = 12;
const EEXIST: Option<i32> = Some(libc::EEXIST);
const EBADFD: Option<i32> = Some(libc::EBADFD);

fn used(flags: u32) -> Ring {
    let ring = Ring::setup(8, 0, flags).expect("io_uring_setup");
    (0..30).for_each(|data| ring.round(data));
    ring.push(&Request { operation: NOP, data: 30, ..Request::default() });
    check_eq!(ring.enter(1, 0).ok(), Some(1), "requests taken");
    ring
}

fn verify(ring: &Ring) {
    check_eq!(ring.next().map(|it| it.data), Some(30), "the completion that was not read");
    (0..50).for_each(|data| ring.round(data));
}

/// What another thread may do with it.
fn error_elsewhere(ring: Ring) -> (Ring, Option<i32>) {
    let ring = Arc::new(Mutex::new(Sent(ring)));
    let there = Arc::clone(&ring);
    let error = std::thread::spawn(move || {
        let Sent(ring) = &*there.lock().expect("nobody panicked");
        ring.enter(1, 0).err().and_then(|error| error.raw_os_error())
    });
    let error = error.join().expect("it does not panic");
    let Ok(Ok(Sent(ring))) = Arc::try_unwrap(ring).map(Mutex::into_inner) else { unreachable!() };
    (ring, error)
}

struct Sent(Ring);
// SAFETY: one thread at a time uses it, which a mutex sees to.
unsafe impl Send for Sent {}

fn run(cx: &mut Context) {
    let kinds = [
        SUBMIT_ALL,
        COOP_TASKRUN | TASKRUN_FLAG,
        SQE128,
        CQE32,
        SQE128 | CQE32 | NO_SQARRAY,
        NO_SQARRAY,
        SINGLE_ISSUER,
        SINGLE_ISSUER | DEFER_TASKRUN,
        SINGLE_ISSUER | DEFER_TASKRUN | TASKRUN_FLAG | NO_SQARRAY | CQE32,
    ];
    let all: Vec<_> = kinds.into_iter().map(|flags| (flags, used(flags))).collect();
    let disabled = Ring::setup(4, 0, R_DISABLED | SINGLE_ISSUER).expect("io_uring_setup");
    let (thread, _) = cx.thread(|cx| {
        let ring = used(SINGLE_ISSUER | DEFER_TASKRUN);
        cx.arrive(crate::sys::gettid());
        cx.wait_go();
        verify(&ring);
    });

    cx.ready_and_wait();

    for (flags, ring) in all {
        verify(&ring);
        if flags & SINGLE_ISSUER != 0 {
            let (ring, error) = error_elsewhere(ring);
            check_eq!(error, EEXIST, "another thread submits");
            ring.round(1);
        }
    }
    let error = disabled.enter(0, 0).err().and_then(|error| error.raw_os_error());
    check_eq!(error, EBADFD, "to use a ring that is disabled");
    check_eq!(disabled.register::<u8>(ENABLE_RINGS, &[], 0).ok(), Some(0), "to enable it");
    (0..20).for_each(|data| disabled.round(data));
    let (_, error) = error_elsewhere(disabled);
    check_eq!(error, EEXIST, "another thread submits");
    thread.join().expect("the thread does not panic");
}
