//! Processes in calls that a signal with a handler ends with `EINTR`; some have the signal blocked
//! but for the call.
//!
//! Verified: they stay blocked; the signal runs the handler once, and has the call return `EINTR`.
//! CRIU: returns `EINTR` without a signal.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::blocking::outcome;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

static RUNS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    RUNS.fetch_add(1, Ordering::Relaxed);
}

/// Who has got a signal while it could not run has ended by then.
const GRACE: Duration = Duration::from_millis(300);

static TIME: libc::timespec = libc::timespec { tv_sec: 1000, tv_nsec: 0 };

/// A call, by its number and arguments, and whether the signal is blocked but for it.
type Call = (libc::c_long, [usize; 6], bool);

fn calls(set: &OwnedFd) -> Vec<Call> {
    // Both last as long as the process.
    let room = Box::leak(Box::new([libc::epoll_event { events: 0, u64: 0 }; 4])).as_ptr() as usize;
    let time = &raw const TIME as usize;
    let none = Box::leak(Box::new(0_u64)) as *const u64 as usize;
    let other = Box::leak(Box::new(sys::sigset(&[libc::SIGUSR2]))) as *const u64 as usize;
    let set = set.as_raw_fd() as usize;
    let for_ever = usize::MAX;
    vec![
        (libc::SYS_epoll_wait, [set, room, 4, for_ever, 0, 0], false),
        (libc::SYS_epoll_wait, [set, room, 4, 1_000_000, 0, 0], false),
        (libc::SYS_epoll_pwait, [set, room, 4, for_ever, none, 8], true),
        (libc::SYS_epoll_pwait, [set, room, 4, 1_000_000, none, 8], true),
        (libc::SYS_epoll_pwait2, [set, room, 4, time, none, 8], true),
        (libc::SYS_rt_sigtimedwait, [other, 0, 0, 8, 0, 0], false),
        (libc::SYS_rt_sigtimedwait, [other, 0, time, 8, 0, 0], false),
        (libc::SYS_pause, [0; 6], false),
    ]
}

fn run(cx: &mut Context) {
    sys::handle(libc::SIGUSR1, count, libc::SA_RESTART);
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll_create1");
    let children: Vec<i32> = calls(&set)
        .into_iter()
        .map(|(number, [a, b, c, d, e, f], blocked)| {
            let child = cx.fork(|cx| {
                if blocked {
                    sys::block(sys::sigset(&[libc::SIGUSR1]));
                }
                cx.arrive(sys::gettid());
                // SAFETY: what the arguments point to lasts as long as the process.
                let result = outcome(unsafe { libc::syscall(number, a, b, c, d, e, f) });
                check_eq!(result, Err(libc::EINTR), "what syscall {number} returns");
                check_eq!(RUNS.load(Ordering::Relaxed), 1, "runs of the handler ({number})");
            });
            cx.await_blocked(child, number);
            child
        })
        .collect();

    cx.ready_and_wait();

    let began = Instant::now();
    let mut waiting = children.clone();
    while !waiting.is_empty() && began.elapsed() < GRACE {
        sys::nap(Duration::from_millis(5));
        waiting.retain(|&child| sys::state(child) != Some('Z'));
    }
    for child in waiting {
        sys::kill(child, libc::SIGUSR1);
    }
    children.into_iter().for_each(|child| cx.reap(child));
}
