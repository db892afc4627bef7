//! A process with many children, each with a page of its own.

use rustix::io::read;
use rustix::pipe::pipe;

use crate::Context;
use crate::sys::{Area, PAGE};

pub(super) fn run(cx: &mut Context, size: usize) {
    let area = Area::anonymous(PAGE);
    let (reader, writer) = pipe().expect("pipe");
    let (arrivals, arrived) = pipe().expect("pipe");
    let mut writer = Some(writer);
    let children: Vec<i32> = (0..size)
        .map(|number| {
            cx.fork(|_| {
                drop(writer.take());
                area.fill(number as u64);
                rustix::io::write(&arrived, b"x").expect("write");
                // The end of the pipe is when the parent closes it.
                check_eq!(read(&reader, &mut [0; 1]), Ok(0), "reading the pipe");
                area.verify(number as u64, "a child's page");
            })
        })
        .collect();
    let mut seen = 0;
    while seen < size {
        seen += read(&arrivals, &mut [0; 512]).expect("read");
    }
    cx.ready_and_wait();
    drop(writer);
    children.into_iter().for_each(|child| cx.reap(child));
}
