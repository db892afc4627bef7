//! A queue of an interface that goes when its last queue does, with its addresses and routes.
//!
//! Verified: the dump is refused, naming process, descriptor and kind; the target goes on, and has
//! its interface.
//! CRIU: refuses, without a network namespace.

use crate::facts::Users;
use crate::files::tun;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .users(Users::Root)
    .refused("queue of a tun or tap interface")
    .missing(|| {
        let made = tun::open().and_then(|file| tun::interface(&file, "dormouse-try", tun::IFF_TUN));
        made.err().map(|error| format!("no interface can be made: {error}"))
    });

fn run(cx: &mut Context) {
    let name = format!("dmgone{}", std::process::id());
    let _queue = tun::fleeting(&name, 42);
    cx.ready_and_wait();
    let interfaces = std::fs::read_to_string("/proc/net/dev").expect("the interfaces");
    check!(interfaces.contains(&name), "the interface is there");
}
