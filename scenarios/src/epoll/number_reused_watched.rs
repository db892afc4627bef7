//! A number that was closed and given to another file, which is watched under it too.
//!
//! Verified: both files are reported, each with its data; the number stands for the second.
//! CRIU: gives the first item the number its file has now.

use rustix::io::Errno;

use super::watch::{Epoll, IN, at, event, plant, rouse};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let (first, second) = (event(0), event(0));
    plant(&first, 50);
    epoll.add(at(50), IN, 1);
    plant(&second, 50);
    epoll.add(at(50), IN, 2);

    cx.ready_and_wait();

    rouse(&first);
    check_eq!(epoll.take(), [(1, IN)], "after the first's event");
    rouse(&second);
    check_eq!(epoll.take(), [(1, IN), (2, IN)], "after the second's");
    check_eq!(epoll.delete(at(50)), Ok(()), "deleting by the number");
    check_eq!(epoll.take(), [(1, IN)], "without the second item");
    check_eq!(epoll.delete(at(50)), Err(Errno::NOENT), "deleting by the number again");
}
