//! Pages that siblings share and their parent has no more: it changed its copy after the forks.
//!
//! Verified: contents; that the siblings' pages are still one in memory.
//! CRIU: contents yes; each sibling gets a copy.

use super::cow_children::{compare_frames, note_frames};
use crate::context::until;
use crate::sys::{Area, PAGE};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const PAGES: usize = 256;

fn run(cx: &mut Context) {
    let area = Area::anonymous(PAGES * PAGE);
    check!(area.advise(libc::MADV_NOHUGEPAGE).is_ok(), "MADV_NOHUGEPAGE");
    area.fill(1);
    let sibling = |first: bool| {
        let child = cx.fork(|cx| {
            cx.arrive(sys::gettid());
            cx.wait_go();
            area.verify(1, "a sibling's pages");
            if first {
                note_frames(cx, area, "frames");
                until("the sibling's comparison", || cx.path("compared").exists());
            } else {
                until("the sibling's frames", || cx.path("frames").exists());
                compare_frames(cx, area, "frames", "the sibling");
                cx.publish("compared", "");
            }
        });
        cx.await_arrival(child);
        child
    };
    let children = [sibling(true), sibling(false)];
    area.fill(2);

    cx.ready_and_wait();

    children.iter().for_each(|&c| cx.reap(c));
    area.verify(2, "the parent's pages");
}
