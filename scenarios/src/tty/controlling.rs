//! A session with its controlling terminal: the leader, a job in the foreground, one in the background,
//! and a process that has given the terminal up.
//!
//! Verified: `tcgetsid`, `tcgetpgrp` by everybody; `/dev/tty` leads to the terminal, or is ENXIO for the
//! one without; the interrupt character signals the foreground job and nobody else; a new foreground
//! group can be set.
//! CRIU: loses the controlling terminal of all but the leader.

use std::sync::atomic::{AtomicI32, Ordering};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, getpgid, setpgid};
use rustix::termios::{tcgetpgrp, tcgetsid, tcsetpgrp};

use super::{awaited, ioctl, lead_session, pseudo_terminal, slave, write};
use crate::context::until;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

static INTERRUPTS: AtomicI32 = AtomicI32::new(0);

extern "C" fn count(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    INTERRUPTS.fetch_add(1, Ordering::SeqCst);
}

fn dev_tty() -> rustix::io::Result<std::os::fd::OwnedFd> {
    open("/dev/tty", OFlags::RDWR, Mode::empty())
}

fn raw(pid: rustix::io::Result<Pid>) -> Option<i32> {
    pid.ok().map(|pid| pid.as_raw_nonzero().get())
}

/// A job in a group of its own, which expects so many interrupts.
fn job(cx: &Context, path: &std::ffi::CString, expected: i32) -> i32 {
    cx.fork(|cx| {
        let own = sys::gettid();
        setpgid(None, None).expect("setpgid");
        sys::handle(libc::SIGINT, count, 0);
        cx.arrive(own);
        cx.wait_go();
        let slave = slave(path);
        check_eq!(raw(tcgetsid(&slave)), Some(sys::parent()), "session, by a job");
        check!(dev_tty().is_ok(), "/dev/tty in a job: {:?}", dev_tty());
        cx.arrive(own + 1_000_000_000);
        until("the test of interrupts", || cx.path("typed").exists());
        if expected > 0 {
            until("an interrupt", || INTERRUPTS.load(Ordering::SeqCst) == expected);
        } else {
            sys::nap(std::time::Duration::from_millis(30));
        }
        check_eq!(INTERRUPTS.load(Ordering::SeqCst), expected, "interrupts");
    })
}

fn run(cx: &mut Context) {
    let (master, path) = pseudo_terminal();
    let leader = cx.fork(|cx| {
        let slave = slave(&path);
        lead_session(&slave);
        sys::handle(libc::SIGINT, count, 0);
        sys::ignore(libc::SIGTTOU);
        let (front, back) = (job(cx, &path, 1), job(cx, &path, 0));
        let without = cx.fork(|cx| {
            ioctl(dev_tty().expect("/dev/tty"), libc::TIOCNOTTY, 0).expect("TIOCNOTTY");
            cx.arrive(sys::gettid());
            cx.wait_go();
            check_eq!(dev_tty().map(drop), Err(rustix::io::Errno::NXIO), "/dev/tty given up");
        });
        [front, back, without].iter().for_each(|&job| cx.await_arrival(job));
        tcsetpgrp(&slave, Pid::from_raw(front).expect("a pid")).expect("tcsetpgrp");
        cx.arrive(sys::gettid());
        cx.wait_go();
        check_eq!(raw(tcgetsid(&slave)), Some(sys::gettid()), "session");
        check_eq!(raw(tcgetpgrp(&slave)), Some(front), "foreground group");
        check_eq!(dev_tty().and_then(tcgetpgrp), tcgetpgrp(&slave), "the same by /dev/tty");
        [front, back].iter().for_each(|&job| cx.await_arrival(job + 1_000_000_000));
        cx.arrive(sys::gettid() + 1_000_000_000);
        cx.reap(front);
        cx.reap(back);
        cx.reap(without);
        check_eq!(INTERRUPTS.load(Ordering::SeqCst), 0, "interrupts of the leader");
        let own = getpgid(None).expect("getpgid");
        check_eq!(tcsetpgrp(&slave, own), Ok(()), "tcsetpgrp");
        check_eq!(tcgetpgrp(&slave), Ok(own), "foreground group that was set");
    });
    cx.await_arrival(leader);
    cx.ready_and_wait();
    cx.await_arrival(leader + 1_000_000_000);
    check_eq!(write(&master, "\u{3}"), Ok(1), "typing the interrupt character");
    check_eq!(awaited(&master, "^C"), "^C", "its echo");
    cx.publish("typed", "");
    cx.reap(leader);
}
