//! Threads that wait in one epoll which only their own fd table has, among many that have no epoll.
//!
//! Verified: who began last is woken first. Not by dumps that are killed, which may leave another order.
//! CRIU: cannot dump.

use super::wait_turns::{Numbers, Turns};
use super::watch::unshare_files;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).missing(sys::no_thread_pidfds);

/// More than a dump asks each what it waits for without a reason.
const IDLE: usize = 20;
const ORDER: [usize; 4] = [2, 0, 3, 1];

fn run(cx: &mut Context) {
    let idle: Vec<_> = (0..IDLE)
        .map(|_| {
            cx.thread(|cx| {
                cx.arrive(sys::gettid());
                cx.wait_go();
            })
        })
        .collect();
    let (first, _) = cx.thread(|cx| {
        unshare_files();
        // Those that it starts have its table.
        let turns = Turns::begin(cx, &ORDER, Numbers::One);
        cx.arrive(sys::gettid());
        cx.wait_go();
        turns.end(cx, &ORDER);
    });

    cx.ready_and_wait();

    check!(first.join().is_ok(), "the thread panicked");
    idle.into_iter().for_each(|(thread, _)| thread.join().expect("no panic"));
}
