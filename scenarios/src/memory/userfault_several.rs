//! Two userfaultfds with parts of one mapping each, and that of a child, whose memory is its own and in parts its
//! parent's: the parent handles that, too, by a descriptor that the child has sent.
//!
//! Verified: that each is told of faults in what is registered with it, and that all go on.
//! CRIU: refuses.

use std::os::fd::AsFd;

use crate::sys::userfault::{MISSING, Userfaultfd, no_userfaultfd};
use crate::sys::{Area, PAGE, gettid, present};
use crate::unix::talk;
use crate::{Context, Scenario};
use rustix::net::SocketType;

use super::userfault::{FAULTS_AGAIN, reader};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).missing(no_userfaultfd).faults().differs(FAULTS_AGAIN);

fn run(cx: &mut Context) {
    let area = Area::anonymous(16 * PAGE);
    let contents = Area::anonymous(PAGE);
    contents.fill(4);
    area.pages(4, 1).fill(1);
    area.pages(12, 1).fill(2);
    let (own, other) = talk::pair(SocketType::DGRAM);
    let user = cx.user();
    let child = cx.fork(|cx| {
        let fault = Userfaultfd::ready(user, 0);
        fault.register(area.pages(0, 8), MISSING).expect("UFFDIO_REGISTER");
        talk::send(&other, b"x", &[fault.as_fd()]);
        drop(fault);
        let waiting = reader(cx, area.pages(7, 1));
        cx.arrive(gettid());
        cx.wait_go();
        check_eq!(waiting.join().ok(), Some(contents.read(0)), "what the child's thread reads");
        area.pages(4, 1).verify(1, "what the child has from its parent");
        area.pages(12, 1).verify(2, "what is not registered");
        area.pages(13, 1).verify_zero("what is not registered");
        let there = present(area.pages(0, 8)).iter().filter(|&&there| there).count();
        check_eq!(there, 2, "pages that are there");
    });
    cx.await_arrival(child);
    let of_child = talk::hear(&own, 1, b"x", "what the child sends").rights.remove(0);
    let of_child = Userfaultfd::from_fd(of_child);
    let halves = [area.pages(0, 8), area.pages(8, 8)];
    let faults = halves.map(|half| {
        let fault = Userfaultfd::ready(user, 0);
        fault.register(half, MISSING).expect("UFFDIO_REGISTER");
        fault
    });
    let waiting = halves.map(|half| reader(cx, half.pages(2, 1)));
    for fault in faults.iter().chain([&of_child]) {
        cx.await_faults(fault, 1);
    }

    cx.ready_and_wait();

    for ((fault, half), waiting) in faults.iter().zip(halves).zip(waiting) {
        fault.await_fault(half.pages(2, 1), 0);
        check_eq!(fault.next(), None, "a fault of the other's");
        fault.copy(half.pages(2, 1), contents).expect("UFFDIO_COPY");
        check_eq!(waiting.join().ok(), Some(contents.read(0)), "what the thread reads");
    }
    of_child.await_fault(area.pages(7, 1), 0);
    of_child.copy(area.pages(7, 1), contents).expect("UFFDIO_COPY");
    cx.reap(child);
    area.pages(4, 1).verify(1, "in the first");
    area.pages(12, 1).verify(2, "in the second");
    check_eq!(present(area).iter().filter(|&&there| there).count(), 4, "pages that are there");
}
