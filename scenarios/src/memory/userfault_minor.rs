//! Memory of a memfd in which a userfaultfd reports accesses to pages that the memfd has and the process not, and
//! to those that nobody has: some are mapped; some are zeros that were written; a thread waits.
//!
//! Verified: which pages are mapped; that the thread is told of, and goes on; that others are reported as what
//! they are.
//! CRIU: refuses.

use std::os::fd::AsFd;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::userfault::{FAULTS_AGAIN, reader};
use crate::sys::userfault::{
    MINOR, MINOR_SHMEM, MISSING, MISSING_SHMEM, Userfaultfd, no_userfaultfd,
};
use crate::sys::{Area, PAGE, present};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).missing(no_userfaultfd).faults().differs(FAULTS_AGAIN);

/// `UFFD_PAGEFAULT_FLAG_MINOR`.
const ITS_FILES: u64 = 4;

fn run(cx: &mut Context) {
    let memfd = memfd_create("minor", MemfdFlags::CLOEXEC).expect("memfd_create");
    ftruncate(&memfd, 8 * PAGE as u64).expect("ftruncate");
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let map = || Area::map(8 * PAGE, prot, libc::MAP_SHARED, Some((memfd.as_fd(), 0)));
    let (all, area) = (map(), map());
    all.pages(0, 5).fill(3);
    all.write(5 * PAGE, 0);
    let fault = Userfaultfd::ready(cx.user(), MINOR_SHMEM | MISSING_SHMEM);
    fault.register(area, MINOR | MISSING).expect("UFFDIO_REGISTER");
    let page = |number| area.pages(number, 1);
    fault.go_on(page(0)).expect("UFFDIO_CONTINUE");
    fault.go_on(area.pages(3, 2)).expect("UFFDIO_CONTINUE");
    let waiting = reader(cx, page(1));
    cx.await_faults(&fault, 1);
    let before = present(area);

    cx.ready_and_wait();

    check_eq!(present(area), before, "pages that are mapped");
    fault.await_fault(page(1), ITS_FILES);
    fault.go_on(page(1)).expect("UFFDIO_CONTINUE");
    check_eq!(waiting.join().ok(), Some(all.read(PAGE)), "what the thread reads");
    for (number, flags) in [(2, ITS_FILES), (5, ITS_FILES), (7, 0)] {
        let later = reader(cx, page(number));
        fault.await_fault(page(number), flags);
        match flags {
            0 => fault.copy(page(number), all.pages(4, 1)).expect("UFFDIO_COPY"),
            _ => fault.go_on(page(number)).expect("UFFDIO_CONTINUE"),
        };
        check_eq!(later.join().ok(), Some(all.read(number * PAGE)), "page {number}");
    }
    all.pages(0, 5).verify(3, "what was in the memfd");
    check_eq!(fault.next(), None, "more faults");
}
