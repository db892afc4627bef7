//! A userfaultfd about the memory of a process that is not part of the checkpoint.
//!
//! Verified: the dump is refused, naming process, descriptor and kind; the target goes on and the
//! object works.
//! CRIU: refuses.

use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};

use rustix::net::SocketType;

use super::at_42;
use crate::context::until;
use crate::sys::userfault::{MISSING, Userfaultfd, no_userfaultfd};
use crate::sys::{Area, PAGE, gettid};
use crate::unix::talk;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused("userfaultfd").missing(no_userfaultfd);

fn run(cx: &mut Context) {
    let area = Area::anonymous(PAGE);
    let (own, other) = talk::pair(SocketType::DGRAM);
    cx.stranger(|cx| {
        let fault = Userfaultfd::ready(cx.user(), 0);
        fault.register(area, MISSING).expect("UFFDIO_REGISTER");
        talk::send(&other, b"x", &[fault.as_fd()]);
        cx.publish("stranger", &gettid().to_string());
        until("the end of the root", || cx.path("done").exists());
        area.verify_zero("what is filled from outside");
    });
    until("the stranger", || cx.path("stranger").exists());
    let fault = talk::hear(&own, 1, b"x", "what the other sends").rights.remove(0);
    drop((own, other));
    at_42(fault.into_raw_fd());
    cx.ready_and_wait();
    // SAFETY: it is open there, and nothing else closes it.
    let fault = unsafe { OwnedFd::from_raw_fd(42) };
    Userfaultfd::from_fd(fault).zero(area).expect("UFFDIO_ZEROPAGE");
    cx.publish("done", "");
}
