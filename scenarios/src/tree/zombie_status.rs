//! Zombies with exit statuses that need the eighth bit.
//!
//! Verified: `waitid` gives every status from 128 to 255 that was chosen.
//! CRIU: keeps seven bits: 255 becomes 127.

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const STATUSES: [i32; 4] = [128, 137, 200, 255];

fn run(cx: &mut Context) {
    let zombies = STATUSES.map(|status| cx.fork(|_| sys::exit(status)));
    zombies.iter().for_each(|&z| cx.await_state(z, 'Z'));
    cx.ready_and_wait();
    for (zombie, status) in zombies.into_iter().zip(STATUSES) {
        let end = sys::wait_siginfo(zombie, libc::WEXITED | libc::WNOHANG).ok();
        check_eq!(end, Some((libc::CLD_EXITED, status)), "end of {zombie}");
    }
}
