//! The action of every signal: handler, flags, restorer, mask; default and ignored ones.
//!
//! Verified: `rt_sigaction` gives back all four fields for all 64 signals, and a caught signal still
//! arrives in its handler.
//! CRIU: works.

use std::sync::atomic::{AtomicI32, Ordering};

use crate::sys::Action;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

static CAUGHT: AtomicI32 = AtomicI32::new(0);

extern "C" fn catch(signal: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    CAUGHT.store(signal, Ordering::SeqCst);
}

/// Signals and the flags of their handlers; SA_RESTORER and SA_SIGINFO are added by libc and us.
const HANDLED: [(i32, i32); 8] = [
    (libc::SIGUSR1, 0),
    (libc::SIGUSR2, libc::SA_RESTART),
    (libc::SIGALRM, libc::SA_NODEFER),
    (libc::SIGTERM, libc::SA_ONSTACK | libc::SA_RESTART),
    (libc::SIGCHLD, libc::SA_NOCLDSTOP),
    (libc::SIGURG, libc::SA_NOCLDWAIT),
    (34, libc::SA_RESTART | libc::SA_NODEFER),
    (64, libc::SA_RESETHAND),
];

fn run(cx: &mut Context) {
    for (signal, flags) in HANDLED {
        sys::handle(signal, catch, flags);
        // A mask of its own for each, over all 64 bits.
        let mut action = sys::rt_sigaction(signal, None);
        action.mask = 0x8000_0001_4000_2000 | (1 << (signal % 30));
        sys::rt_sigaction(signal, Some(&action));
    }
    for signal in [libc::SIGHUP, libc::SIGWINCH, 40, 63] {
        let action =
            Action { handler: libc::SIG_IGN, flags: libc::SA_RESTART as u64, ..Action::default() };
        sys::rt_sigaction(signal, Some(&action));
    }
    let all = || (1..=64).map(|signal| sys::rt_sigaction(signal, None)).collect::<Vec<_>>();
    let before = all();

    cx.ready_and_wait();

    for (signal, (found, expected)) in (1..).zip(all().iter().zip(&before)) {
        check_eq!(*found, *expected, "action of signal {signal}");
    }
    for (signal, _) in HANDLED {
        CAUGHT.store(0, Ordering::SeqCst);
        check!(
            rustix::process::kill_process(rustix::process::getpid(), signal_of(signal)).is_ok(),
            "kill"
        );
        check_eq!(CAUGHT.load(Ordering::SeqCst), signal, "signal that arrived");
    }
}

fn signal_of(raw: i32) -> rustix::process::Signal {
    // SAFETY: the numbers are valid; 34 and 64 are real-time signals libc leaves to the program.
    unsafe { rustix::process::Signal::from_raw_unchecked(raw) }
}
