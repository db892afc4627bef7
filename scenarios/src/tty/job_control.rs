//! Jobs of a shell: one stopped by the suspend character, one stopped for reading in the background.
//!
//! Verified: both are stopped; the shell brings each to the foreground and continues it; the first ends
//! at once, the second reads the line that is typed.
//! CRIU: loses the controlling terminal of all but the leader.

use rustix::process::{Pid, getpgid, setpgid};
use rustix::termios::tcsetpgrp;

use super::{lead_session, pseudo_terminal, slave, text, write};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn pid(raw: i32) -> Pid {
    Pid::from_raw(raw).expect("a pid")
}

fn run(cx: &mut Context) {
    let (master, path) = pseudo_terminal();
    let shell = cx.fork(|cx| {
        let slave = slave(&path);
        lead_session(&slave);
        sys::ignore(libc::SIGTTOU);
        let suspended = cx.fork(|cx| {
            setpgid(None, None).expect("setpgid");
            cx.arrive(sys::gettid());
            cx.await_arrival(sys::gettid() + 1_000_000_000);
        });
        cx.await_arrival(suspended);
        tcsetpgrp(&slave, pid(suspended)).expect("tcsetpgrp");
        cx.arrive(sys::gettid());
        let stop = sys::wait_siginfo(suspended, libc::WSTOPPED).ok();
        check_eq!(stop, Some((libc::CLD_STOPPED, libc::SIGTSTP)), "the stop");
        let own = getpgid(None).expect("getpgid");
        tcsetpgrp(&slave, own).expect("tcsetpgrp");
        let reader = cx.fork(|cx| {
            setpgid(None, None).expect("setpgid");
            sys::default(libc::SIGTTOU);
            cx.arrive(sys::gettid());
            check_eq!(text(&slave).as_deref(), Ok("for you\n"), "what the reader has read");
        });
        cx.await_arrival(reader);
        let stop = sys::wait_siginfo(reader, libc::WSTOPPED).ok();
        check_eq!(stop, Some((libc::CLD_STOPPED, libc::SIGTTIN)), "the stop of the reader");
        cx.arrive(sys::gettid() + 1_000_000_000);

        cx.wait_go();
        check_eq!(sys::state(suspended), Some('T'), "state of the suspended job");
        check_eq!(sys::state(reader), Some('T'), "state of the reader");
        cx.arrive(suspended + 1_000_000_000);
        check_eq!(tcsetpgrp(&slave, pid(suspended)), Ok(()), "fg");
        sys::kill(-suspended, libc::SIGCONT);
        cx.reap(suspended);
        check_eq!(tcsetpgrp(&slave, pid(reader)), Ok(()), "fg of the reader");
        sys::kill(-reader, libc::SIGCONT);
        cx.reap(reader);
    });
    cx.await_arrival(shell);
    check_eq!(write(&master, "\u{1a}"), Ok(1), "typing the suspend character");
    cx.await_arrival(shell + 1_000_000_000);
    cx.ready_and_wait();
    check_eq!(write(&master, "for you\n"), Ok(8), "typing");
    cx.reap(shell);
}
