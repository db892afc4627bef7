//! A number that was closed and given to another file, which nobody watches.
//!
//! Verified: only the first file is reported; the second can be added under the number.
//! CRIU: gives the item the number its file has now.

use rustix::io::Errno;

use super::watch::{Epoll, IN, NOTHING, at, event, plant, rouse};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let (first, second) = (event(0), event(0));
    plant(&first, 50);
    epoll.add(at(50), IN, 1);
    plant(&second, 50);

    cx.ready_and_wait();

    rouse(&second);
    check_eq!(epoll.take(), NOTHING, "after the event of the file nobody watches");
    check_eq!(epoll.delete(at(50)), Err(Errno::NOENT), "deleting by the number");
    rouse(&first);
    check_eq!(epoll.take(), [(1, IN)], "after the watched file's");
    epoll.add(at(50), IN, 2);
    check_eq!(epoll.take(), [(1, IN), (2, IN)], "with both watched");
}
