//! A child belongs to the thread that forked it, which the thread can tell by `__WNOTHREAD`.
//!
//! Verified: the thread can wait for its own child with `__WNOTHREAD`; the main thread cannot.
//! CRIU: gives all children to the main thread.

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// `include/uapi/linux/wait.h`.
const WNOTHREAD: i32 = 0x2000_0000;

fn run(cx: &mut Context) {
    let (thread, _) = cx.thread(|cx| {
        let child = cx.fork(|cx| {
            cx.arrive(sys::gettid());
            cx.wait_go();
        });
        cx.await_arrival(child);
        cx.publish("child", &child.to_string());
        cx.arrive(sys::gettid());
        cx.wait_go();
        until_main_has_tried(cx);
        let flags = libc::WEXITED | WNOTHREAD;
        let end = sys::wait_siginfo(child, flags).map_err(|e| e.raw_os_error());
        check_eq!(end, Ok((libc::CLD_EXITED, 0)), "the thread waiting for its own child");
    });
    let child: i32 =
        std::fs::read_to_string(cx.path("child")).expect("read").parse().expect("a pid");
    cx.ready_and_wait();
    let end = sys::wait_siginfo(child, libc::WEXITED | libc::WNOHANG | WNOTHREAD)
        .map_err(|e| e.raw_os_error());
    check_eq!(end, Err(Some(libc::ECHILD)), "the main thread waiting for the other's child");
    cx.publish("tried", "");
    check!(thread.join().is_ok(), "the thread panicked");
}

fn until_main_has_tried(cx: &Context) {
    let path = cx.path("tried");
    crate::context::until("the main thread's attempt", || path.exists());
}
