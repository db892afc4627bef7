//! Reserved huge pages of which a userfaultfd reports those that are missing, and stores to those that are
//! protected; a thread waits for one.
//!
//! Verified: what is there, missing and protected; that the thread goes on.
//! CRIU: refuses.

use super::huge::{self, HUGE, anonymous};
use super::userfault::{FAULTS_AGAIN, reader};
use crate::sys::userfault::{MISSING, PROTECTED, Userfaultfd, WP_SHMEM, no_userfaultfd};
use crate::sys::{PAGE, present, write_protected};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).missing(missing).faults().differs(FAULTS_AGAIN);

fn missing() -> Option<String> {
    no_userfaultfd().or_else(huge::missing)
}

fn run(cx: &mut Context) {
    const EACH: usize = HUGE / PAGE;
    let area = anonymous(4, libc::MAP_PRIVATE);
    let contents = anonymous(1, libc::MAP_PRIVATE);
    contents.fill(6);
    let page = |number| area.pages(number * EACH, EACH);
    let fault = Userfaultfd::ready(cx.user(), WP_SHMEM);
    fault.register(area, MISSING | PROTECTED).expect("UFFDIO_REGISTER");
    fault.copy(page(0), contents).expect("UFFDIO_COPY");
    fault.copy(page(1), contents).expect("UFFDIO_COPY");
    fault.protect(page(1), true).expect("UFFDIO_WRITEPROTECT");
    let waiting = reader(cx, page(2));
    cx.await_faults(&fault, 1);
    let before = (present(area), write_protected(area));
    check_eq!(before.1.len(), EACH, "pages that are protected");

    cx.ready_and_wait();

    check_eq!((present(area), write_protected(area)), before, "what is there, and protected");
    fault.await_fault(page(2), 0);
    fault.copy(page(2), contents).expect("UFFDIO_COPY");
    check_eq!(waiting.join().ok(), Some(contents.read(0)), "what the thread reads");
    page(0).write(0, 1);
    page(1).verify(6, "what is protected");
    check_eq!(fault.next(), None, "more faults");
}
