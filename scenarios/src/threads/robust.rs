//! Robust mutexes: the kernel walks a dying thread's list and marks what it held.
//!
//! Verified: `get_robust_list` of every thread is what it was; a mutex held by a thread that ends
//! after the checkpoint is handed on with `EOWNERDEAD`.
//! CRIU: works.

use std::cell::UnsafeCell;
use std::mem;
use std::sync::Arc;

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

struct Robust(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: a pthread mutex is made to be used by several threads, through the pthread calls alone.
unsafe impl Sync for Robust {}
// SAFETY: as above; it is not moved once initialised, being in an Arc.
unsafe impl Send for Robust {}

/// (head, length) of a thread's robust list.
fn list(tid: i32) -> (usize, usize) {
    let (mut head, mut len) = (0usize, 0usize);
    // SAFETY: both are written by the kernel.
    let result =
        unsafe { libc::syscall(libc::SYS_get_robust_list, tid, &raw mut head, &raw mut len) };
    check_eq!(result, 0, "get_robust_list of {tid}");
    (head, len)
}

fn run(cx: &mut Context) {
    // SAFETY: all zeros is a mutex, and an attribute before its initialisation.
    let (mutex, mut attributes) = unsafe { (Arc::new(Robust(mem::zeroed())), mem::zeroed()) };
    // SAFETY: the attribute is initialised first and lives over the calls.
    unsafe {
        libc::pthread_mutexattr_init(&raw mut attributes);
        libc::pthread_mutexattr_setrobust(&raw mut attributes, libc::PTHREAD_MUTEX_ROBUST);
        libc::pthread_mutex_init(mutex.0.get(), &raw const attributes);
    }
    let held = mutex.clone();
    let (thread, tid) = cx.thread(move |cx| {
        // SAFETY: initialised above.
        check_eq!(unsafe { libc::pthread_mutex_lock(held.0.get()) }, 0, "locking");
        cx.arrive(sys::gettid());
        cx.wait_go();
        // It ends without unlocking.
    });
    let main = sys::gettid();
    let before = [list(tid), list(main)];
    cx.ready_and_wait();
    check_eq!(list(main), before[1], "robust list of the main thread");
    check!(thread.join().is_ok(), "the thread panicked");
    // SAFETY: initialised above.
    let result = unsafe { libc::pthread_mutex_lock(mutex.0.get()) };
    check_eq!(result, libc::EOWNERDEAD, "locking what a dead thread held");
}
