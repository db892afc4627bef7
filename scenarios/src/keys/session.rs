//! A session keyring with all kinds of things in it.
//!
//! Verified: a key for the program, one for the kernel, one that expires, a keyring in it, a key that
//! is in both, one that was revoked, what permissions they have, and a link to the user's keyring.
//! CRIU: the program has whatever keyring CRIU has.

use crate::{Context, Scenario, sys::key};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).missing(key::no_keys).faults();

/// Whoever possesses it may read and find it; everybody else may only see it.
const READ_ONLY: u32 = 0x0b01_0000;

fn run(cx: &mut Context) {
    let session = key::join_session(None);
    let secret = key::add(c"user", c"secret", b"of the program", session);
    let inner = key::add(c"keyring", c"inner", b"", session);
    key::add(c"user", c"long", &[7; 3000], inner);
    key::link(secret, inner);
    key::add(c"logon", c"service:name", b"for the kernel", session);
    key::permit(key::add(c"user", c"read only", b"still", session), READ_ONLY);
    key::revoke(key::add(c"user", c"revoked", b"gone", session));
    key::expire(key::add(c"user", c"expiring", b"in an hour", session), 3600);
    for number in 0..40 {
        let name = std::ffi::CString::new(format!("one of many {number}")).expect("no null");
        key::add(c"user", &name, format!("{number}").as_bytes(), inner);
    }
    key::link(key::USER, session);
    let before = key::tree(key::SESSION);
    check_eq!(before.len(), 50, "what is reached from the keyring");
    cx.ready_and_wait();
    check_eq!(key::tree(key::SESSION), before, "what is reached from the keyring");
    let found = key::request(c"user", c"secret");
    check!(found.is_ok(), "the key is found by its description");
}
