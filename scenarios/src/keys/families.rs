//! Several session keyrings in one tree, and who has which.
//!
//! Verified: what the root adds, its first child finds, which has the same; a second child has
//! another, and the same as a thread of the root; a third one has that of its user's sessions, and a
//! fourth none.
//! CRIU: all have whatever keyring CRIU has.

use crate::{Context, Scenario, sys, sys::key};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).missing(key::no_keys);

fn run(cx: &mut Context) {
    // Who asks for one gets that of its user's sessions from the kernel, and has it from then on.
    let without = cx.fork(|cx| {
        cx.arrive(sys::own_pid());
        cx.wait_go();
        let own = key::keyring(key::SESSION, false).expect("a keyring");
        check_eq!(Ok(own), key::keyring(key::USER_SESSION, false).map_err(drop), "without one");
    });
    cx.await_arrival(without);
    let of_user = cx.fork(|cx| {
        let before = key::keyring(key::SESSION, false).expect("a keyring");
        cx.arrive(sys::own_pid());
        cx.wait_go();
        check_eq!(key::keyring(key::SESSION, false).map_err(drop), Ok(before), "the user's");
    });
    cx.await_arrival(of_user);
    key::add(c"user", c"which", b"first", key::join_session(None));
    let same = cx.fork(|cx| {
        cx.arrive(sys::own_pid());
        cx.wait_go();
        let added = || key::request(c"user", c"added by the root").is_ok();
        crate::context::until_forever(added);
    });
    cx.await_arrival(same);
    let (thread, _) = cx.thread(|cx| {
        let name = c"dormouse-scenario-second";
        key::add(c"user", c"which", b"second", key::join_session(Some(name)));
        let child = cx.fork(|cx| {
            let before = key::tree(key::SESSION);
            cx.arrive(sys::own_pid());
            cx.wait_go();
            check_eq!(key::tree(key::SESSION)[0], before[0], "of the second child");
            let added = || key::request(c"user", c"added by the thread").is_ok();
            crate::context::until_forever(added);
            check!(key::request(c"user", c"added by the root").is_err(), "it is another one");
        });
        cx.await_arrival(child);
        let before = key::tree(key::SESSION);
        cx.arrive(sys::gettid());
        crate::context::until_forever(|| cx.gone());
        check_eq!(key::tree(key::SESSION), before, "of the thread");
        key::add(c"user", c"added by the thread", b"now", key::SESSION);
        cx.reap(child);
    });
    let before = key::tree(key::SESSION);
    cx.ready_and_wait();
    check_eq!(key::tree(key::SESSION), before, "of the root");
    key::add(c"user", c"added by the root", b"now", key::SESSION);
    for child in [without, of_user, same] {
        cx.reap(child);
    }
    check!(thread.join().is_ok(), "the thread panicked");
}
