//! A process of many threads, each with a value of its own.

use std::cell::Cell;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use crate::Context;

thread_local! { static OWN: Cell<usize> = const { Cell::new(0) }; }

/// Enough for a thread that only waits.
pub(super) const STACK: usize = 64 << 10;

pub(super) fn run(cx: &mut Context, size: usize) {
    let state = Arc::new((Mutex::new((0, false)), Condvar::new()));
    let threads: Vec<_> = (0..size)
        .map(|number| {
            let state = Arc::clone(&state);
            let body = move || {
                OWN.set(number);
                let (lock, changed) = &*state;
                let mut guard = lock.lock().expect("nobody panics with it");
                guard.0 += 1;
                let guard = changed.wait_while(guard, |(_, go)| !*go);
                drop(guard.expect("nobody panics with it"));
                OWN.get() == number
            };
            thread::Builder::new().stack_size(STACK).spawn(body).expect("a thread")
        })
        .collect();
    let (lock, changed) = &*state;
    while lock.lock().expect("nobody panics with it").0 < size {
        crate::sys::nap(std::time::Duration::from_millis(1));
    }
    cx.ready_and_wait();
    lock.lock().expect("nobody panics with it").1 = true;
    changed.notify_all();
    let right =
        threads.into_iter().map(|thread| thread.join()).filter(|own| matches!(own, Ok(true)));
    check_eq!(right.count(), size, "threads that kept their own value");
}
