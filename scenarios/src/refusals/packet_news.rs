//! A master in packet mode that has not been told yet what has happened to its slave.
//!
//! Verified: the dump is refused, naming process, descriptor and kind; the target goes on, and is told.
//! CRIU: the master is told nothing.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use rustix::termios::{QueueSelector, tcflush};

use super::at_42;
use crate::tty::{ioctl, pseudo_terminal, slave};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).refused("terminal");

fn run(cx: &mut Context) {
    let (master, path) = pseudo_terminal();
    at_42(master.into_raw_fd());
    // SAFETY: it was put there.
    let master = unsafe { OwnedFd::from_raw_fd(42) };
    let slave = slave(&path);
    let on = 1;
    ioctl(&master, libc::TIOCPKT, (&raw const on).expose_provenance()).expect("TIOCPKT");
    tcflush(&slave, QueueSelector::IFlush).expect("tcflush");
    cx.ready_and_wait();
    let mut told = [0; 8];
    check_eq!(rustix::io::read(&master, &mut told), Ok(1), "being told");
    // `TIOCPKT_FLUSHREAD`.
    check_eq!(told[0], 1, "of what");
}
