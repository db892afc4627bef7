//! Thread-local storage, and `errno` with it.
//!
//! Verified: the values and addresses of thread-local variables of every thread.
//! CRIU: works.

use std::cell::Cell;
use std::io::Error;

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

thread_local! {
    static NUMBER: Cell<u64> = const { Cell::new(0) };
}

fn place() -> usize {
    NUMBER.with(|number| number.as_ptr().addr())
}

fn set(number: u64) -> usize {
    NUMBER.set(number);
    place()
}

fn verify(number: u64, at: usize) {
    check_eq!(NUMBER.get(), number, "thread-local value");
    check_eq!(place(), at, "its address");
    sys::set_errno(number as i32 % 90);
    check_eq!(Error::last_os_error().raw_os_error(), Some(number as i32 % 90), "errno");
}

fn run(cx: &mut Context) {
    let threads: Vec<_> = (1..9)
        .map(|number| {
            cx.thread(move |cx| {
                let at = set(number * 1_000_003);
                cx.arrive(sys::gettid());
                cx.wait_go();
                verify(number * 1_000_003, at);
            })
        })
        .collect();
    let at = set(42);
    cx.ready_and_wait();
    verify(42, at);
    for (thread, _) in threads {
        check!(thread.join().is_ok(), "a thread panicked");
    }
}
