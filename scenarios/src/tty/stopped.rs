//! Output that is stopped: by the stop character, which is typed; by `TCOOFF` at the slave, and at the
//! master; while there is something to be read, and where no slave has ever been open.
//!
//! Verified: nothing can be written, until what stopped it lets it go on: the start character does
//! not where it was `TCOOFF`.
//! CRIU: all output goes on.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};

use super::{awaited, ioctl, pseudo_terminal, slave, text, write};
use crate::context::until;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// `include/uapi/asm-generic/termbits-common.h`
const TCOOFF: usize = 0;
const TCOON: usize = 1;

fn quiet(file: OwnedFd) -> OwnedFd {
    fcntl_setfl(&file, OFlags::RDWR | OFlags::NONBLOCK).expect("F_SETFL");
    file
}

fn is_stopped(file: &OwnedFd) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut asked = [PollFd::new(file, PollFlags::OUT)];
    poll(&mut asked, Some(&at_once)).expect("poll");
    asked[0].revents().is_empty()
}

fn run(cx: &mut Context) {
    let (typed_master, path) = pseudo_terminal();
    let typed = quiet(slave(&path));
    check_eq!(write(&typed, "before"), Ok(6), "printing");
    check_eq!(write(&typed_master, "one\nbeg"), Ok(7), "typing");
    until("the echo", || rustix::io::ioctl_fionread(&typed_master) == Ok(14));
    check_eq!(write(&typed_master, "\u{13}"), Ok(1), "typing the stop character");
    let (held_master, path) = pseudo_terminal();
    let held = quiet(slave(&path));
    ioctl(&held, libc::TCXONC, TCOOFF).expect("TCXONC");
    let (master, _path) = pseudo_terminal();
    ioctl(&master, libc::TCXONC, TCOOFF).expect("TCXONC");
    let (fresh_master, fresh_path) = pseudo_terminal();
    check_eq!(write(&fresh_master, "\u{13}"), Ok(1), "typing");
    until("the stop", || is_stopped(&typed));

    cx.ready_and_wait();

    for (file, what) in [(&typed, "a character"), (&held, "TCOOFF"), (&master, "the master's")] {
        check!(is_stopped(file), "nothing can be written: {what}");
        check_eq!(write(file, "x"), Err(libc::EAGAIN), "writing: {what}");
    }
    let fresh = quiet(slave(&fresh_path));
    check_eq!(write(&fresh, "x"), Err(libc::EAGAIN), "writing where nobody was");
    check_eq!(text(&typed).as_deref(), Ok("one\n"), "a line");
    let printed = "beforeone\r\nbeg";
    check_eq!(awaited(&typed_master, printed), printed, "what was printed before");

    for master in [&typed_master, &held_master, &fresh_master] {
        check_eq!(write(master, "\u{11}"), Ok(1), "typing the start character");
    }
    until("output to go on", || !is_stopped(&typed) && !is_stopped(&fresh));
    check!(is_stopped(&held), "no character undoes TCOOFF");
    ioctl(&held, libc::TCXONC, TCOON).expect("TCXONC");
    ioctl(&master, libc::TCXONC, TCOON).expect("TCXONC");
    for (file, what) in [(&typed, "a character"), (&held, "TCOOFF"), (&master, "the master's")] {
        check_eq!(write(file, "on"), Ok(2), "writing: {what}");
    }
    check_eq!(awaited(&held_master, "on"), "on", "what was printed");
    check_eq!(write(&typed_master, "un\n"), Ok(3), "ending the line");
    check_eq!(text(&typed).as_deref(), Ok("begun\n"), "the line that was begun");
}
