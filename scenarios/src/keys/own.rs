//! Keyrings of a process and of its threads.
//!
//! Verified: that of the process, that of the first thread and of another, and where keys go that are
//! requested. A child has none of them.
//! CRIU: loses them.

use crate::{Context, Scenario, sys, sys::key};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).missing(key::no_keys);

/// `KEY_REQKEY_DEFL_PROCESS_KEYRING`, `KEY_REQKEY_DEFL_NO_CHANGE`.
const TO_PROCESS: i32 = 2;
const ASK: i32 = -1;

fn run(cx: &mut Context) {
    let (thread, _) = cx.thread(|cx| {
        key::add(c"user", c"of the thread", b"2", key::THREAD);
        let before = key::tree(key::THREAD);
        cx.arrive(sys::gettid());
        crate::context::until_forever(|| cx.gone());
        check_eq!(key::tree(key::THREAD), before, "what is the thread's");
        check!(key::keyring(key::PROCESS, false).is_err(), "the thread has none of a process");
    });
    key::add(c"user", c"of the process", b"1", key::PROCESS);
    key::add(c"user", c"of the first thread", b"1", key::THREAD);
    let child = cx.fork(|cx| {
        cx.arrive(sys::own_pid());
        cx.wait_go();
        for keyring in [key::PROCESS, key::THREAD] {
            check!(key::keyring(keyring, false).is_err(), "the child has no keyring {keyring}");
        }
    });
    cx.await_arrival(child);
    key::request_into(TO_PROCESS);
    let before = [key::PROCESS, key::THREAD].map(key::tree);
    cx.ready_and_wait();
    check_eq!([key::PROCESS, key::THREAD].map(key::tree), before, "what is the process's");
    check_eq!(key::request_into(ASK), TO_PROCESS, "where keys go");
    cx.reap(child);
    check!(thread.join().is_ok(), "the thread panicked");
}
