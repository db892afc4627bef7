//! A number that was closed and given to a regular file, which cannot be watched.
//!
//! Verified: the first file is reported; the number answers as a regular file's does.
//! CRIU: gives the item the number its file has now.

use rustix::io::Errno;

use super::watch::{Epoll, IN, at, event, plant, rouse};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let first = event(0);
    plant(&first, 50);
    epoll.add(at(50), IN, 1);
    let path = cx.path("regular");
    std::fs::write(&path, "regular").expect("write");
    plant(std::fs::File::open(&path).expect("open"), 50);

    cx.ready_and_wait();

    rouse(&first);
    check_eq!(epoll.take(), [(1, IN)], "after the event");
    check_eq!(epoll.delete(at(50)), Err(Errno::PERM), "deleting by the number");
    check_eq!(rustix::io::read(at(50), &mut [0; 7]), Ok(7), "reading the regular file");
}
