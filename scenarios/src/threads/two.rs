//! A second thread.
//!
//! Verified: its tid, that both run on, and that `pthread_join` returns, for which the kernel
//! must still clear the tid at the address of `set_tid_address` and wake the waiter.
//! CRIU: works.

use std::sync::mpsc;
use std::thread;

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn run(cx: &mut Context) {
    let (tell, hear) = mpsc::channel();
    let other = cx.clone();
    let thread = thread::spawn(move || {
        let tid = sys::gettid();
        tell.send(tid).expect("the main thread listens");
        other.wait_go();
        check_eq!(sys::gettid(), tid, "gettid() of the second thread");
        tid
    });
    let tid = hear.recv().expect("the thread told its tid");
    cx.ready_and_wait();
    check_eq!(thread.join().ok(), Some(tid), "what the thread returned");
}
