//! The terminal in the foreground of a group that has ended.
//!
//! Verified: the number of that group is still the foreground group's; the leader can come forward.
//! CRIU: fails to restore.

use rustix::process::{Pid, getpgid, setpgid};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

use super::{lead_session, pseudo_terminal, slave};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (_master, path) = pseudo_terminal();
    let leader = cx.fork(|cx| {
        let slave = slave(&path);
        lead_session(&slave);
        sys::ignore(libc::SIGTTOU);
        let job = cx.fork(|cx| {
            setpgid(None, None).expect("setpgid");
            cx.arrive(sys::gettid());
            cx.await_arrival(sys::gettid() + 1_000_000_000);
        });
        cx.await_arrival(job);
        tcsetpgrp(&slave, Pid::from_raw(job).expect("a pid")).expect("tcsetpgrp");
        cx.arrive(job + 1_000_000_000);
        cx.reap(job);
        cx.arrive(sys::gettid());
        cx.wait_go();
        let found = tcgetpgrp(&slave).map(|pid| pid.as_raw_nonzero().get());
        check_eq!(found, Ok(job), "foreground group");
        let own = getpgid(None).expect("getpgid");
        check_eq!(tcsetpgrp(&slave, own), Ok(()), "tcsetpgrp");
        check_eq!(tcgetpgrp(&slave), Ok(own), "foreground group that was set");
    });
    cx.await_arrival(leader);
    cx.ready_and_wait();
    cx.reap(leader);
}
