//! Memory whose page faults are reported by a userfaultfd that only a process outside has.
//!
//! Verified: the dump is refused, naming the process; the target goes on, and its memory is filled.
//! CRIU: refuses.

use crate::context::until;
use crate::sys::userfault::{MISSING, Userfaultfd, no_userfaultfd};
use crate::sys::{Area, PAGE, gettid};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused_task("userfaultfd").missing(no_userfaultfd);

fn run(cx: &mut Context) {
    let area = Area::anonymous(PAGE);
    let fault = Userfaultfd::ready(cx.user(), 0);
    fault.register(area, MISSING).expect("UFFDIO_REGISTER");
    cx.stranger(|cx| {
        cx.publish("stranger", &gettid().to_string());
        cx.wait_go();
        fault.zero(area).expect("UFFDIO_ZEROPAGE");
        until("the end of the root", || cx.path("done").exists());
    });
    until("the stranger", || cx.path("stranger").exists());
    drop(fault);
    cx.ready_and_wait();
    area.verify_zero("what is filled from outside");
    cx.publish("done", "");
}
