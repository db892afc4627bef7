//! Memory whose missing pages are handled by another process: a child that has inherited the userfaultfd; its
//! parent, whose memory it is about, has closed it, and waits for a page.
//!
//! Verified: that the child is told, and that the parent goes on with what it gives.
//! CRIU: refuses.

use super::userfault::{FAULTS_AGAIN, reader};
use crate::sys::userfault::{MISSING, Userfaultfd, no_userfaultfd};
use crate::sys::{Area, PAGE, gettid, present};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).missing(no_userfaultfd).faults().differs(FAULTS_AGAIN);

fn run(cx: &mut Context) {
    let area = Area::anonymous(8 * PAGE);
    let page = |number| area.pages(number, 1);
    let fault = Userfaultfd::ready(cx.user(), 0);
    fault.register(area, MISSING).expect("UFFDIO_REGISTER");
    let child = cx.fork(|cx| {
        let contents = Area::anonymous(PAGE);
        contents.fill(5);
        fault.copy(page(1), contents).expect("UFFDIO_COPY");
        cx.arrive(gettid());
        cx.wait_go();
        fault.await_fault(page(2), 0);
        fault.copy(page(2), contents).expect("UFFDIO_COPY");
        fault.await_fault(page(5), 0);
        fault.copy(page(5), contents).expect("UFFDIO_COPY");
        check_eq!(fault.next(), None, "more faults");
        // Its own is its own.
        page(3).verify_zero("the child's copy");
    });
    cx.await_arrival(child);
    let waiting = reader(cx, page(2));
    cx.await_faults(&fault, 1);
    drop(fault);

    cx.ready_and_wait();

    let first = page(1).read(0);
    check_eq!(waiting.join().ok(), Some(first), "what the thread reads");
    page(1).verify(5, "a page that was there before");
    page(5).verify(5, "a page that comes later");
    cx.reap(child);
    let there = present(area).into_iter().filter(|&there| there).count();
    check_eq!(there, 3, "pages that are there");
}
