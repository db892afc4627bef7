//! A parent of `size` MiB with twenty children that share all of it.

use rustix::io::read;
use rustix::pipe::pipe;

use crate::Context;
use crate::sys::{Area, PAGE, page_frames};

const CHILDREN: usize = 20;
/// A child compares this many frames with its parent's.
const SAMPLES: usize = 64;

pub(super) fn run(cx: &mut Context, size: usize) {
    let area = Area::anonymous(size << 20);
    area.fill(1);
    let step = area.len() / PAGE / SAMPLES;
    let frames = Area::map(SAMPLES * 8, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, None);
    let frame = |sample: usize| page_frames(area.pages(sample * step, 1))[0];
    let (reader, writer) = pipe().expect("pipe");
    let mut writer = Some(writer);
    let children: Vec<i32> = (0..CHILDREN)
        .map(|_| {
            cx.fork(|_| {
                drop(writer.take());
                check_eq!(read(&reader, &mut [0; 1]), Ok(0), "reading the pipe");
                let same = (0..SAMPLES).filter(|&at| frames.read(at * 8) == frame(at)).count();
                check!(same * 100 >= SAMPLES * 95, "only {same} of {SAMPLES} pages are shared");
                area.pages(0, SAMPLES).verify(1, "a child's memory");
            })
        })
        .collect();
    cx.ready_and_wait();
    (0..SAMPLES).for_each(|at| frames.write(at * 8, frame(at)));
    drop(writer);
    children.into_iter().for_each(|child| cx.reap(child));
    area.verify(1, "the parent's memory");
}
