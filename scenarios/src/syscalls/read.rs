//! `read` of an empty pipe, and of an eventfd that is zero.
//!
//! Verified: it stays blocked until there is something, and then returns it; blocked signals are as before.
//! CRIU: works.

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};
use rustix::pipe::pipe;

use super::blocking::until_woken;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (reader, writer) = pipe().expect("pipe");
    let fd = eventfd(0, EventfdFlags::empty()).expect("eventfd");
    let (sent, hears) = (rustix::io::dup(&fd).expect("dup"), cx.clone());
    let (second, _) = cx.thread(move |cx| {
        let mut value = [0; 8];
        cx.arrive(crate::sys::gettid());
        check_eq!(read(&fd, &mut value), Ok(8), "read of the eventfd");
        check!(hears.gone(), "the eventfd was read before there was anything");
        u64::from_ne_bytes(value)
    });
    let wait = move || {
        let mut bytes = [0; 10];
        (read(&reader, &mut bytes), bytes)
    };
    until_woken(cx, libc::SYS_read, &(Ok(4), *b"four\0\0\0\0\0\0"), wait, |_| {
        check_eq!(write(&writer, b"four"), Ok(4), "write to the pipe");
    });
    check_eq!(write(&sent, &9u64.to_ne_bytes()), Ok(8), "write to the eventfd");
    check_eq!(second.join().ok(), Some(9), "count read");
}
