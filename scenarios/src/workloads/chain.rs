//! A chain of processes, each the child of the one before, and each with a page of its own.

use std::os::fd::OwnedFd;

use rustix::io::read;
use rustix::pipe::pipe;

use crate::Context;
use crate::sys::{Area, PAGE};

struct Links {
    area: Area,
    /// The end of this pipe is when the first process closes it.
    reader: OwnedFd,
    arrived: OwnedFd,
}

pub(super) fn run(cx: &mut Context, size: usize) {
    let (reader, writer) = pipe().expect("pipe");
    let (arrivals, arrived) = pipe().expect("pipe");
    let links = Links { area: Area::anonymous(PAGE), reader, arrived };
    let mut writer = Some(writer);
    let child = (size > 0).then(|| {
        cx.fork(|cx| {
            drop(writer.take());
            links.one(cx, size - 1);
        })
    });
    let mut seen = 0;
    while seen < size {
        seen += read(&arrivals, &mut [0; 512]).expect("read");
    }
    cx.ready_and_wait();
    drop(writer);
    child.into_iter().for_each(|child| cx.reap(child));
}

impl Links {
    /// What each is, `left` being below it.
    fn one(&self, cx: &Context, left: usize) {
        self.area.fill(left as u64);
        let child = (left > 0).then(|| cx.fork(|cx| self.one(cx, left - 1)));
        rustix::io::write(&self.arrived, b"x").expect("write");
        check_eq!(read(&self.reader, &mut [0; 1]), Ok(0), "reading the pipe");
        self.area.verify(left as u64, "a process's page");
        child.into_iter().for_each(|child| cx.reap(child));
    }
}
