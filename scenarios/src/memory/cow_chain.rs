//! Copy-on-write over three generations, each of which has changed a part.
//!
//! Verified: contents in all three, and which pages are still one in memory: those of the
//! grandparent in all, those the parent changed in parent and child.
//! CRIU: contents yes; sharing along the chain where neighbours have the same.

use super::cow_children::{compare_frames, note_frames};
use crate::context::until;
use crate::sys::{Area, PAGE};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const PART: usize = 128;

fn run(cx: &mut Context) {
    let area = Area::anonymous(4 * PART * PAGE);
    check!(area.advise(libc::MADV_NOHUGEPAGE).is_ok(), "MADV_NOHUGEPAGE");
    let parts: [Area; 4] = std::array::from_fn(|i| area.pages(i * PART, PART));
    parts.iter().for_each(|p| p.fill(1));
    let parent = cx.fork(|cx| {
        parts[1].fill(2);
        parts[2].fill(2);
        let child = cx.fork(|cx| {
            parts[2].fill(3);
            parts[3].fill(3);
            cx.arrive(sys::gettid());
            until("the parent's frames", || cx.path("frames.1").exists());
            compare_frames(cx, parts[0], "frames.0", "the child, of the grandparent's,");
            compare_frames(cx, parts[1], "frames.1", "the child, of the parent's,");
            for (part, seed) in parts.iter().zip([1, 2, 3, 3]) {
                part.verify(seed, "a part in the child");
            }
        });
        cx.await_arrival(child);
        cx.arrive(sys::gettid());
        until("the grandparent's frames", || cx.path("frames.0").exists());
        compare_frames(cx, parts[0], "frames.0", "the parent, of the grandparent's,");
        note_frames(cx, parts[1], "frames.1");
        cx.reap(child);
        for (part, seed) in parts.iter().zip([1, 2, 2, 1]) {
            part.verify(seed, "a part in the parent");
        }
    });
    cx.await_arrival(parent);

    cx.ready_and_wait();

    note_frames(cx, parts[0], "frames.0");
    cx.reap(parent);
    parts.iter().for_each(|part| part.verify(1, "a part in the grandparent"));
}
