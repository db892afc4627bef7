//! A hundred threads.
//!
//! Verified: the tid of each; each can be signalled by it; all can be joined.
//! CRIU: works.

use crate::{Context, Scenario, sys};

const THREADS: usize = 100;

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    sys::block(sys::sigset(&[libc::SIGUSR1]));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            cx.thread(|cx| {
                let tid = sys::gettid();
                cx.arrive(tid);
                cx.wait_go();
                check_eq!(sys::gettid(), tid, "gettid()");
                crate::context::until("the signal to this thread", || {
                    sys::pending() & sys::sigset(&[libc::SIGUSR1]) != 0
                });
                tid
            })
        })
        .collect();
    cx.ready_and_wait();
    let pid = std::process::id() as i32;
    for (thread, tid) in threads {
        check!(sys::queue(pid, Some(tid), libc::SIGUSR1, 0).is_ok(), "signalling thread {tid}");
        check_eq!(thread.join().ok(), Some(tid), "what the thread returned");
    }
}
