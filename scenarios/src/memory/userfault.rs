//! Memory whose missing pages a userfaultfd of the same process reports: pages with contents, of zeros, and
//! missing, also where huge pages could be; threads that wait for pages, of which one was told of and another not.
//!
//! Verified: what is there and what is missing; that both threads are told of, and go on when their pages
//! come; that another fault is reported.
//! CRIU: refuses.

use crate::sys::userfault::{MISSING, Userfaultfd, no_userfaultfd};
use crate::sys::{Area, PAGE, present};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).missing(no_userfaultfd).faults().differs(FAULTS_AGAIN);

/// For scenarios with threads that wait for pages.
pub(super) const FAULTS_AGAIN: &[(&str, &str)] =
    &[("*/fd/*/info", "an access that waits is made again, and is told of again")];

/// Starts a thread that reads the first word of a page that is missing.
pub(super) fn reader(cx: &Context, page: Area) -> std::thread::JoinHandle<u64> {
    cx.thread(move |cx| {
        cx.arrive(crate::sys::gettid());
        page.read(0)
    })
    .0
}

fn run(cx: &mut Context) {
    let area = Area::anonymous(16 * PAGE);
    let contents = Area::anonymous(2 * PAGE);
    contents.fill(1);
    let page = |number| area.pages(number, 1);
    let fault = Userfaultfd::ready(cx.user(), 0);
    page(9).fill(9);
    fault.register(area, MISSING).expect("UFFDIO_REGISTER");
    fault.copy(area.pages(0, 2), contents).expect("UFFDIO_COPY");
    fault.zero(page(3)).expect("UFFDIO_ZEROPAGE");
    fault.zero(page(4)).expect("UFFDIO_ZEROPAGE");
    page(4).write(0, 0);
    // As large as huge pages, and each of them has gaps.
    let sparse = Area::anonymous(6 << 20);
    let _ = sparse.advise(libc::MADV_HUGEPAGE);
    fault.register(sparse, MISSING).expect("UFFDIO_REGISTER");
    let some = [1, 600, 1200];
    for number in some {
        fault.copy(sparse.pages(number, 1), contents.pages(0, 1)).expect("UFFDIO_COPY");
    }
    let told = reader(cx, page(6));
    fault.await_fault(page(6), 0);
    let untold = reader(cx, page(7));
    cx.await_faults(&fault, 1);
    let there = [0, 1, 3, 4, 9];

    cx.ready_and_wait();

    let found = |area| -> Vec<usize> {
        let pages = present(area).into_iter().enumerate();
        pages.filter(|&(_, there)| there).map(|(page, _)| page).collect()
    };
    check_eq!(found(area), there, "pages that are there");
    check_eq!(found(sparse), some, "pages that are there where huge ones could be");
    fault.copy(page(6), contents.pages(0, 1)).expect("UFFDIO_COPY");
    let first = contents.read(0);
    check_eq!(told.join().ok(), Some(first), "what the first thread reads");
    fault.await_fault(page(7), 0);
    fault.copy(page(7), contents.pages(1, 1)).expect("UFFDIO_COPY");
    check_eq!(untold.join().ok(), Some(contents.read(PAGE)), "what the second thread reads");
    area.pages(0, 2).verify(1, "pages that were copied");
    area.pages(3, 2).verify_zero("pages of zeros");
    page(9).verify(9, "a page that was there before");
    let later = reader(cx, page(12));
    fault.await_fault(page(12), 0);
    fault.copy(page(12), contents.pages(0, 1)).expect("UFFDIO_COPY");
    check_eq!(later.join().ok(), Some(first), "what a thread reads later");
    check_eq!(fault.next(), None, "more faults");
}
