//! AIO contexts that take no more requests until some of their completions are read.
//!
//! Verified: head, tail and number of places; that they take no more; every completion in its order, and
//! that all places can be had again.
//! CRIU: the process may run on all processors again.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU8;

use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::sys::Aio;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).missing(|| {
    let works = Aio::setup(1).is_ok();
    (!works).then(|| "there is no room for an AIO context (fs.aio-max-nr)".into())
});

static BUFFER: AtomicU8 = AtomicU8::new(0);

/// Submits until there is no place. The number of requests taken.
fn fill(aio: Aio, file: &File) -> u64 {
    (0..)
        .find(|&number| match aio.try_read(file.as_fd(), 0, &BUFFER, number) {
            Ok(()) => false,
            Err(error) => {
                check_eq!(error, Errno::AGAIN, "io_submit");
                true
            }
        })
        .expect("there are places for so many")
}

fn all_events(aio: Aio, count: u64) -> Vec<(u64, i64)> {
    let mut events = Vec::new();
    while (events.len() as u64) < count {
        events.extend(aio.events(1, 256));
    }
    events
}

fn run(cx: &mut Context) {
    let path = cx.path("file");
    std::fs::write(&path, "x").expect("write");
    let file = File::open(&path).expect("open");
    // The kernel hands out places to processors; on one, all can be had.
    let allowed = sched_getaffinity(None).expect("sched_getaffinity");
    let mut one = CpuSet::new();
    one.set((0..CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu)).expect("a processor"));
    sched_setaffinity(None, &one).expect("sched_setaffinity");
    let full: Vec<_> = [(1, 0), (10, 50), (1000, 700)]
        .map(|(requests, earlier)| {
            let aio = Aio::setup(requests).expect("io_setup");
            for number in 0..earlier {
                aio.read(file.as_fd(), 0, &BUFFER, number);
                check_eq!(aio.events(1, 1), [(number, 1)], "completion");
            }
            let taken = fill(aio, &file);
            check!(taken > u64::from(aio.header(1) / 2), "only {taken} were taken");
            (aio, taken, [1, 2, 3].map(|number| aio.header(number)))
        })
        .into();

    cx.ready_and_wait();

    for &(aio, taken, header) in &full {
        check_eq!([1, 2, 3].map(|number| aio.header(number)), header, "places, head and tail");
        check_eq!(fill(aio, &file), 0, "requests taken without a place");
        let expected: Vec<_> = (0..taken).map(|number| (number, 1)).collect();
        check!(all_events(aio, taken) == expected, "not the completions that there were");
        check_eq!(aio.events(0, 1), [], "completions after the last");
        check_eq!(fill(aio, &file), taken, "requests taken once all was read");
        check!(all_events(aio, taken) == expected, "not the completions of these");
    }
}
