//! A thread in a system call that waits for the handler of a userfaultfd to give it a page.
//!
//! Verified: the dump is refused, naming the process; the call goes on when the page comes.
//! CRIU: refuses.

use rustix::io::{read, write};
use rustix::pipe::pipe;

use crate::sys::userfault::{MISSING, Userfaultfd, no_userfaultfd};
use crate::sys::{Area, PAGE, gettid};
use crate::{Context, Scenario, Users};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .users(Users::Root)
    .refused_task("userfaultfd")
    .missing(no_userfaultfd);

fn run(cx: &mut Context) {
    let area = Area::anonymous(PAGE);
    let fault = Userfaultfd::ready(cx.user(), 0);
    fault.register(area, MISSING).expect("UFFDIO_REGISTER");
    let (from, to) = pipe().expect("pipe");
    check_eq!(write(&to, b"12345678"), Ok(8), "write");
    let (waiting, _) = cx.thread(move |cx| {
        cx.arrive(gettid());
        // SAFETY: nothing else refers to the mapping.
        let bytes = unsafe { std::slice::from_raw_parts_mut(area.pointer(), 8) };
        read(&from, bytes)
    });
    cx.await_faults(&fault, 1);
    cx.ready_and_wait();
    fault.zero(area).expect("UFFDIO_ZEROPAGE");
    check_eq!(waiting.join().ok(), Some(Ok(8)), "read");
    check_eq!(area.read(0), u64::from_ne_bytes(*b"12345678"), "what is read");
}
