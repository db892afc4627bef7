//! Many threads in calls that a signal would end with `EINTR`, while a child keeps sending signals to
//! the process that do nothing: by default, or because they are ignored.
//!
//! Verified: no call ends before there is a reason for it.
//! CRIU: returns `EINTR`.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, epoll, eventfd};

use super::blocking::outcome;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// Of each of the two calls.
const THREADS: usize = 30;

const WAKES: i32 = 50;

fn run(cx: &mut Context) {
    static RETURNED: AtomicUsize = AtomicUsize::new(0);
    sys::ignore(libc::SIGUSR2);
    sys::block(sys::sigset(&[WAKES]));
    let returned = |result| {
        RETURNED.fetch_add(1, Ordering::Relaxed);
        result
    };
    let mut threads = Vec::new();
    for _ in 0..THREADS {
        let (thread, tid) = cx.thread(move |cx| {
            let set = sys::sigset(&[WAKES]);
            cx.arrive(sys::gettid());
            // SAFETY: the set has eight bytes.
            let result =
                unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, &raw const set, 0, 0, 8usize) };
            let result = returned(outcome(result));
            cx.wait_go();
            result
        });
        cx.await_blocked(tid, libc::SYS_rt_sigtimedwait);
        threads.push((thread, Ok(WAKES.into()), Some(tid)));
    }
    let event = eventfd(0, EventfdFlags::empty()).expect("eventfd");
    for _ in 0..THREADS {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll_create1");
        epoll::add(&set, &event, epoll::EventData::new_u64(0), epoll::EventFlags::IN).expect("add");
        let (thread, tid) = cx.thread(move |cx| {
            cx.arrive(sys::gettid());
            let mut events = [libc::epoll_event { events: 0, u64: 0 }; 4];
            // SAFETY: room for four events; all lives over the call.
            let result = unsafe {
                libc::syscall(libc::SYS_epoll_wait, set.as_raw_fd(), events.as_mut_ptr(), 4, -1)
            };
            let result = returned(outcome(result));
            cx.wait_go();
            result
        });
        cx.await_blocked(tid, libc::SYS_epoll_wait);
        threads.push((thread, Ok(1), None));
    }
    let parent = std::process::id() as i32;
    let child = cx.fork(|cx| {
        cx.arrive(sys::gettid());
        while !cx.gone() {
            for signal in [libc::SIGWINCH, libc::SIGURG, libc::SIGUSR2] {
                sys::kill(parent, signal);
            }
            sys::nap(Duration::from_micros(20));
        }
    });
    cx.await_arrival(child);

    cx.ready_and_wait();

    cx.reap(child);
    check_eq!(RETURNED.load(Ordering::Relaxed), 0, "calls that have returned");
    rustix::io::write(&event, &1u64.to_ne_bytes()).expect("write");
    for (.., tid) in &threads {
        if tid.is_some() {
            check!(sys::queue(parent, *tid, WAKES, 0).is_ok(), "signal");
        }
    }
    for (thread, expected, _) in threads {
        check_eq!(thread.join().expect("it does not panic"), expected, "what a call returns");
    }
}
