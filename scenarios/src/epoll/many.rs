//! Two thousand items on twenty files, most of them under numbers that are closed.
//!
//! Verified: every item reports once, with its data; those of open numbers can be deleted.
//! CRIU: items of closed numbers collapse into one, and the restore fails.

use rustix::io::Errno;

use super::watch::{EDGE, Epoll, IN, at, event, plant, rouse};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let files: Vec<_> = (0..20).map(|_| event(0)).collect();
    for number in 200..300 {
        for (file, place) in files.iter().zip(0..) {
            plant(file, number);
            epoll.add(at(number), IN | EDGE, number as u64 * 100 + place);
        }
    }
    (205..300).for_each(sys::close);

    cx.ready_and_wait();

    files.iter().for_each(rouse);
    let mut found = epoll.take();
    found.sort_unstable();
    let all = (200..300_u64).flat_map(|number| (0..20).map(move |place| number * 100 + place));
    let expected: Vec<_> = all.map(|data| (data, IN)).collect();
    check!(found == expected, "{} events instead of {}", found.len(), expected.len());
    for number in 200..205 {
        check_eq!(epoll.delete(at(number)), Ok(()), "deleting {number}");
        check_eq!(epoll.delete(at(number)), Err(Errno::NOENT), "deleting {number} again");
    }
}
