//! `/dev/tty` held open, by a leader, and by its child with another open of it.
//!
//! Verified: the link in `/proc/self/fd`; flags; the foreground group by it; what is written to it is
//! printed on the terminal. A session without a terminal in the same tree does not have it.
//! CRIU: works for the leader.

use std::os::fd::AsRawFd;

use rustix::fs::{Mode, OFlags, fcntl_getfl, open};
use rustix::termios::tcgetpgrp;

use super::{awaited, lead_session, pseudo_terminal, slave, write};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (master, path) = pseudo_terminal();
    let leader = cx.fork(|cx| {
        let slave = slave(&path);
        lead_session(&slave);
        let tty = open("/dev/tty", OFlags::RDWR, Mode::empty()).expect("open /dev/tty");
        // Only /dev/tty leads to the terminal.
        drop(slave);
        let own = open("/dev/tty", OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty());
        let own = own.expect("open /dev/tty once more");
        cx.arrive(sys::gettid());
        cx.wait_go();
        for (file, flags) in [(&tty, OFlags::RDWR), (&own, OFlags::WRONLY | OFlags::NONBLOCK)] {
            let name = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
            check_eq!(name.ok().as_deref(), Some("/dev/tty".as_ref()), "the link");
            let found = fcntl_getfl(file).map(|flags| flags - OFlags::LARGEFILE);
            check_eq!(found, Ok(flags), "flags");
            check_eq!(
                tcgetpgrp(file).map(|pid| pid.as_raw_nonzero().get()),
                Ok(sys::gettid()),
                "group"
            );
        }
        check_eq!(write(&tty, "one "), Ok(4), "writing");
        check_eq!(write(&own, "two"), Ok(3), "writing to the other");
    });
    cx.await_arrival(leader);
    cx.ready_and_wait();
    check_eq!(awaited(&master, "one two"), "one two", "what was printed");
    cx.reap(leader);
    let own = open("/dev/tty", OFlags::RDWR, Mode::empty()).map(drop);
    check_eq!(own, Err(rustix::io::Errno::NXIO), "/dev/tty in the session of the root");
}
