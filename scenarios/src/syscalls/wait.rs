//! `wait4` and `waitid` for children that live.
//!
//! Verified: it stays blocked until they end, and then returns their status; blocked signals are as before.
//! CRIU: works.

use super::blocking::until_woken;
use crate::context::until_forever;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let child = |status: i32| {
        let child = cx.fork(|cx| {
            cx.arrive(sys::gettid());
            until_forever(|| cx.path("end").exists());
            sys::exit(status)
        });
        cx.await_arrival(child);
        child
    };
    let (one, two) = (child(11), child(22));
    let hears = cx.clone();
    let (by_waitid, _) = cx.thread(move |cx| {
        cx.arrive(sys::gettid());
        let end = sys::wait_siginfo(two, libc::WEXITED).map_err(|e| e.raw_os_error());
        check!(hears.path("end").exists(), "waitid returned before the child ended");
        end
    });
    until_woken(
        cx,
        libc::SYS_wait4,
        &Ok(11 << 8),
        move || sys::wait_status(one),
        |_| cx.publish("end", ""),
    );
    check_eq!(by_waitid.join().ok(), Some(Ok((libc::CLD_EXITED, 22))), "what waitid returned");
}
