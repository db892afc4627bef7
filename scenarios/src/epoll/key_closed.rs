//! An item whose number was closed while its file lives on under another.
//!
//! Verified: it reports the file, and answers to no number, neither the file's nor its own.
//! CRIU: gives the item the number that the file has now.

use rustix::io::Errno;

use super::watch::{Epoll, IN, NOTHING, at, event, plant, rouse};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let file = event(0);
    plant(&file, 50);
    epoll.add(at(50), IN, 5);
    sys::close(50);

    cx.ready_and_wait();

    check_eq!(epoll.take(), NOTHING, "before the event");
    rouse(&file);
    check_eq!(epoll.take(), [(5, IN)], "after it");
    check_eq!(epoll.delete(&file), Err(Errno::NOENT), "deleting by the file's number");
    check_eq!(epoll.delete(at(50)), Err(Errno::BADF), "deleting by the closed number");
}
