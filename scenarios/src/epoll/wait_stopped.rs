//! Children that wait in an epoll, by a call each of the three there are, and one whose thread does so as
//! well, stopped by SIGSTOP meanwhile.
//!
//! Verified: they are stopped; when SIGCONT comes, every wait returns `EINTR`, as the kernel has it (`signal(7)`).
//! CRIU: stops them anew, so the parent could be told of the stop a second time.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use super::watch::{Epoll, IN, event, wait_by, wait_for};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

const CALLS: [libc::c_long; 3] =
    [libc::SYS_epoll_wait, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2];
const LATE: Duration = Duration::from_secs(60);

fn run(cx: &mut Context) {
    let (epoll, file) = (Epoll::new(), event(0));
    epoll.add(&file, IN, 1);
    let number = epoll.as_fd().as_raw_fd();
    let plain = CALLS.map(|call| {
        let child = cx.fork(|_| {
            let found = wait_for(call, number, 1, None, Some(LATE));
            check_eq!(found, Err(libc::EINTR), "what call {call} returns");
        });
        cx.await_blocked(child, call);
        child
    });
    let threaded = cx.fork(|cx| {
        let (thread, tid) = cx.thread(move |cx| {
            cx.arrive(sys::gettid());
            let found = wait_by(libc::SYS_epoll_wait, number, 1, None);
            cx.wait_go();
            found
        });
        cx.await_blocked(tid, libc::SYS_epoll_wait);
        let found = wait_by(libc::SYS_epoll_pwait, number, 1, None);
        check_eq!(found, Err(libc::EINTR), "what the first thread is told");
        let found = thread.join().expect("no panic");
        check_eq!(found, Err(libc::EINTR), "what the other thread is told");
    });
    cx.await_blocked(threaded, libc::SYS_epoll_pwait);
    let children: Vec<i32> = plain.into_iter().chain([threaded]).collect();
    for &child in &children {
        sys::kill(child, libc::SIGSTOP);
        let stop = sys::wait_siginfo(child, libc::WSTOPPED).ok();
        check_eq!(stop, Some((libc::CLD_STOPPED, libc::SIGSTOP)), "stop of {child}");
    }

    cx.ready_and_wait();

    for child in children {
        check_eq!(sys::state(child), Some('T'), "state of {child}");
        sys::kill(child, libc::SIGCONT);
        cx.reap(child);
    }
}
