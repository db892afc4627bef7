//! AIO contexts: fresh, with completions to be read, as many as were asked for, with a ring that
//! has wrapped, of many pages; also in a child.
//!
//! Verified: where each is, its head, tail and number of places, every completion in its order, and
//! requests made after.
//! CRIU: works.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU8;

use crate::sys::{self, Aio};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults().missing(|| {
    let works = Aio::setup(1).is_ok();
    (!works).then(|| "there is no room for an AIO context (fs.aio-max-nr)".into())
});

static BUFFER: AtomicU8 = AtomicU8::new(0);

/// A context, and which of its requests are done and not read.
struct Used {
    aio: Aio,
    unread: std::ops::Range<u64>,
    header: [u32; 3],
}

fn header(aio: Aio) -> [u32; 3] {
    [1, 2, 3].map(|number| aio.header(number))
}

impl Used {
    /// `done` requests have gone through it, and the last `unread` of them are to be read.
    fn new(file: &File, requests: u32, done: u64, unread: u64) -> Self {
        let aio = Aio::setup(requests).expect("io_setup");
        for number in 0..done {
            aio.read(file.as_fd(), 0, &BUFFER, number);
            if number + unread < done {
                check_eq!(aio.events(1, 1), [(number, 1)], "completion");
            }
        }
        // What is read above is always the first, so these are the last.
        Self { aio, unread: done - unread..done, header: header(aio) }
    }

    fn verify(&self, file: &File) {
        let Self { aio, ref unread, header: before } = *self;
        check_eq!(header(aio), before, "places, head and tail");
        aio.read(file.as_fd(), 0, &BUFFER, unread.end);
        let [places, _, tail] = before;
        check_eq!(aio.header(3), (tail + 1) % places, "tail after one more request");
        let mut events = Vec::new();
        while events.len() as u64 <= unread.end - unread.start {
            events.extend(aio.events(1, 256));
        }
        let expected: Vec<_> = (unread.start..=unread.end).map(|number| (number, 1)).collect();
        check!(events == expected, "completions are {events:?}");
        check_eq!(aio.events(0, 1), [], "completions after the last");
        // All places can be had again: twice around.
        for number in 0..2 * u64::from(places) {
            aio.read(file.as_fd(), 0, &BUFFER, number);
            check_eq!(aio.events(1, 1), [(number, 1)], "completion of a later request");
        }
    }
}

fn all(file: &File) -> Vec<Used> {
    // A ring of one page has 127 places.
    vec![
        Used::new(file, 1, 0, 0),
        Used::new(file, 10, 7, 7),
        Used::new(file, 10, 100, 5),
        Used::new(file, 10, 127, 0),
        Used::new(file, 10, 130, 20),
        Used::new(file, 62, 300, 62),
        Used::new(file, 1000, 3000, 1000),
    ]
}

fn run(cx: &mut Context) {
    let path = cx.path("file");
    std::fs::write(&path, "x").expect("write");
    let file = File::open(&path).expect("open");
    let child = cx.fork(|cx| {
        let used = all(&file);
        cx.arrive(sys::gettid());
        cx.wait_go();
        used.iter().for_each(|used| used.verify(&file));
    });
    cx.await_arrival(child);
    let used = all(&file);

    cx.ready_and_wait();

    used.iter().for_each(|used| used.verify(&file));
    cx.reap(child);
}
