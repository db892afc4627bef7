//! `pthread_cond_timedwait`, by way of `Condvar::wait_timeout`: a futex wait until a moment.
//!
//! Verified: it returns timed out, with the mutex held, no earlier than asked and not as if begun anew.
//! CRIU: works.

use std::sync::{Condvar, Mutex};

use super::blocking::{WAIT, for_a_time};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

static MUTEX: Mutex<u32> = Mutex::new(3);
static CONDITION: Condvar = Condvar::new();

fn run(cx: &mut Context) {
    for_a_time(cx, libc::SYS_futex, &(true, 3, true), || {
        let guard = MUTEX.lock().expect("nobody panics");
        let (guard, end) = CONDITION.wait_timeout(guard, WAIT).expect("nobody panics");
        (end.timed_out(), *guard, MUTEX.try_lock().is_err())
    });
}
