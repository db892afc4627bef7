//! A keyring that nothing more can be linked to (`KEYCTL_RESTRICT_KEYRING`).
//!
//! Verified: the dump is refused, naming process and key; the target goes on and has it.
//! CRIU: loses it.

use crate::{Context, Scenario, sys::key};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused_task("keyring: closed").missing(key::no_keys);

fn run(cx: &mut Context) {
    let closed = key::add(c"keyring", c"closed", b"", key::join_session(None));
    key::close_keyring(closed);
    let before = key::tree(key::SESSION);
    cx.ready_and_wait();
    check_eq!(key::tree(key::SESSION), before, "what is reached from the keyring");
}
