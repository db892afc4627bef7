//! Waits in `epoll_pwait` and `epoll_pwait2` with a mask that lets a signal in which the thread blocks.
//!
//! Verified: the signal, once sent, ends both waits with `EINTR`, handled; the thread's mask is as before.
//! CRIU: returns `EINTR` without a signal, and the signals that were let in stay so.

use std::os::fd::{AsFd, AsRawFd};

use super::watch::{Epoll, IN, event, wait_by};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    use std::sync::atomic::{AtomicU32, Ordering};

    static HANDLED: AtomicU32 = AtomicU32::new(0);
    extern "C" fn handler(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
        HANDLED.fetch_add(1, Ordering::SeqCst);
    }

    sys::handle(libc::SIGUSR1, handler, libc::SA_RESTART);
    sys::block(sys::sigset(&[libc::SIGUSR1]));
    let epoll = Epoll::new();
    let file = event(0);
    epoll.add(&file, IN, 1);
    let number = epoll.as_fd().as_raw_fd();
    let threads = [libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2].map(|call| {
        let (thread, tid) = cx.thread(move |cx| {
            cx.arrive(sys::gettid());
            let before = sys::blocked();
            let found = wait_by(call, number, 1, Some(sys::sigset(&[libc::SIGUSR2])));
            check_eq!(sys::blocked(), before, "blocked signals after the wait");
            cx.wait_go();
            found
        });
        cx.await_blocked(tid, call);
        (thread, tid)
    });

    cx.ready_and_wait();

    sys::nap(std::time::Duration::from_millis(50));
    check_eq!(HANDLED.load(Ordering::SeqCst), 0, "signals handled before one was sent");
    let own = std::process::id() as i32;
    for (thread, tid) in threads {
        check!(sys::queue(own, Some(tid), libc::SIGUSR1, 0).is_ok(), "sending the signal");
        check_eq!(thread.join().expect("no panic"), Err(libc::EINTR), "what the wait returns");
    }
    check_eq!(HANDLED.load(Ordering::SeqCst), 2, "signals handled");
}
