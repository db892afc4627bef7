//! An AIO context with more unread completions than the kernel promises that there is room for.
//!
//! Verified: the dump is refused, naming process and what it is about; then all can be read.
//! CRIU: works, with luck.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU8;

use crate::sys::Aio;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused_task("unread completions").missing(|| {
        let works = Aio::setup(1).is_ok();
        (!works).then(|| "there is no room for an AIO context (fs.aio-max-nr)".into())
    });

static BUFFER: AtomicU8 = AtomicU8::new(0);

fn run(cx: &mut Context) {
    let path = cx.path("file");
    std::fs::write(&path, "x").expect("write");
    let file = File::open(&path).expect("open");
    let aio = Aio::setup(1).expect("io_setup");
    let unread = u64::from(aio.header(1) / 2 + 1);
    for number in 0..unread {
        aio.read(file.as_fd(), 0, &BUFFER, number);
    }

    cx.ready_and_wait();

    let mut events = Vec::new();
    while (events.len() as u64) < unread {
        events.extend(aio.events(1, 256));
    }
    let expected: Vec<_> = (0..unread).map(|number| (number, 1)).collect();
    check!(events == expected, "completions are {events:?}");
}
