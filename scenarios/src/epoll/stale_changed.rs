//! Items whose numbers were closed, and which the program gets hold of again by putting their files back
//! under them.
//!
//! Verified: MOD and DEL find the items by the old numbers, and ADD finds them there.
//! CRIU: the items have other numbers, so MOD and DEL fail.

use rustix::io::Errno;

use super::watch::{Epoll, IN, OUT, at, event, plant, rouse};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let files = [event(0), event(0), event(0)];
    for (file, number) in files.iter().zip(50..) {
        plant(file, number);
        epoll.add(at(number), IN, number as u64);
        sys::close(number);
    }
    plant(event(0), 51);

    cx.ready_and_wait();

    for (file, number) in files.iter().zip(50..) {
        plant(file, number);
    }
    check_eq!(epoll.modify(at(50), IN | OUT, 500), Ok(()), "modifying");
    check_eq!(epoll.take(), [(500, OUT)], "after that");
    check_eq!(epoll.delete(at(51)), Ok(()), "deleting");
    files.iter().for_each(rouse);
    check_eq!(epoll.take(), [(500, IN | OUT), (52, IN)], "after events of all");
    check_eq!(epoll.delete(at(52)), Ok(()), "deleting another");
    check_eq!(epoll.delete(at(52)), Err(Errno::NOENT), "deleting it again");
    epoll.add(at(52), IN, 520);
    check_eq!(epoll.take(), [(500, IN | OUT), (520, IN)], "after adding it again");
}
