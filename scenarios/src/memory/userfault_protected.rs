//! Memory in which a userfaultfd reports stores to protected pages: private, of a memfd; pages that are there, and
//! some that never were; a thread that waits to store.
//!
//! Verified: which pages are protected; that the thread goes on when its page is not protected any more; that
//! other stores are reported, or not.
//! CRIU: refuses.

use std::os::fd::AsFd;
use std::thread::JoinHandle;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::userfault::FAULTS_AGAIN;
use crate::sys::userfault::{PROTECTED, Userfaultfd, WP_SHMEM, WP_UNPOPULATED, no_userfaultfd};
use crate::sys::{Area, PAGE, gettid, write_protected};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).missing(no_userfaultfd).faults().differs(FAULTS_AGAIN);

/// `UFFD_PAGEFAULT_FLAG_WRITE` and `UFFD_PAGEFAULT_FLAG_WP`.
const STORE: u64 = 1 | 2;

fn writer(cx: &Context, page: Area) -> JoinHandle<()> {
    cx.thread(move |cx| {
        cx.arrive(gettid());
        page.write(0, 77);
    })
    .0
}

fn run(cx: &mut Context) {
    let private = Area::anonymous(8 * PAGE);
    let memfd = memfd_create("protected", MemfdFlags::CLOEXEC).expect("memfd_create");
    ftruncate(&memfd, 8 * PAGE as u64).expect("ftruncate");
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let shared = Area::map(8 * PAGE, prot, libc::MAP_SHARED, Some((memfd.as_fd(), 0)));
    let fault = Userfaultfd::ready(cx.user(), WP_UNPOPULATED | WP_SHMEM);
    for (seed, area) in (1..).zip([private, shared]) {
        area.pages(0, 4).fill(seed);
        fault.register(area, PROTECTED).expect("UFFDIO_REGISTER");
        check_eq!(area.read(4 * PAGE), 0, "a page that is only read");
        fault.protect(area.pages(0, 2), true).expect("UFFDIO_WRITEPROTECT");
        fault.protect(area.pages(4, 3), true).expect("UFFDIO_WRITEPROTECT");
    }
    let before = [private, shared].map(write_protected);
    let expected = [0, 1, 4, 5, 6].to_vec();
    check_eq!(before, [expected.clone(), expected], "protected pages");
    let waiting = [private, shared].map(|area| writer(cx, area.pages(1, 1)));
    cx.await_faults(&fault, 2);

    cx.ready_and_wait();

    check_eq!([private, shared].map(write_protected), before, "protected pages");
    let mut told = std::collections::BTreeSet::new();
    crate::context::until("two faults", || {
        told.extend(fault.next().map(|fault| fault.address));
        told.len() == 2
    });
    let places = [private, shared].map(|area| area.start() + PAGE);
    check_eq!(told, places.into(), "where threads wait");
    for (number, (area, waiting)) in [private, shared].into_iter().zip(waiting).enumerate() {
        let seed = number as u64 + 1;
        area.pages(0, 1).verify(seed, "a page that is protected");
        area.pages(4, 4).verify_zero("pages that are read only");
        check_eq!(waiting.is_finished(), false, "the thread has stored");
        fault.protect(area.pages(1, 1), false).expect("UFFDIO_WRITEPROTECT");
        check_eq!(waiting.join().ok(), Some(()), "the thread goes on");
        check_eq!(area.read(PAGE), 77, "what the thread has stored");
        // Nobody waits here.
        for page in [2, 3, 7] {
            area.write(page * PAGE, 5);
        }
        check_eq!(
            fault.next().filter(|fault| fault.address != area.start() + PAGE),
            None,
            "a fault"
        );
        for page in [0, 6] {
            let page = area.pages(page, 1);
            let later = writer(cx, page);
            fault.await_fault(page, STORE);
            fault.protect(page, false).expect("UFFDIO_WRITEPROTECT");
            check_eq!(later.join().ok(), Some(()), "a thread that stores later");
            check_eq!(page.read(0), 77, "what it has stored");
        }
        check_eq!(write_protected(area), [4, 5], "what is protected in the end");
    }
}
