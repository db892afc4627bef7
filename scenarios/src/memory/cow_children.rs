//! Memory that children share copy-on-write with their parent.
//!
//! Verified: contents in all; after the restore the pages nobody has written to are still one page
//! in memory, which a privileged process sees by frame number; writing to one copy does not
//! show in the others.
//! CRIU: contents yes; it shares again what is the same in parent and child.

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario, User, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

const PAGES: usize = 256;
const CHILDREN: usize = 4;

/// How many of the pages must still be shared, in percent: all but few.
const SHARED: usize = 95;

/// In what share of the area has this process the frames that are in the file? Only root sees frames.
pub(super) fn compare_frames(cx: &Context, area: Area, file: &str, who: &str) {
    if cx.user() != User::Root {
        return;
    }
    let theirs = std::fs::read_to_string(cx.path(file)).expect("frames of the parent");
    let theirs: Vec<u64> = theirs.split_whitespace().filter_map(|w| w.parse().ok()).collect();
    let ours = sys::page_frames(area);
    let same = ours.iter().zip(&theirs).filter(|(a, b)| a == b && **a != 0).count();
    let least = area.len() / PAGE * SHARED / 100;
    check!(same >= least, "{who} shares {same} pages, which should be at least {least}");
}

/// Notes this process's frames for [`compare_frames`].
pub(super) fn note_frames(cx: &Context, area: Area, file: &str) {
    let frames = sys::page_frames(area);
    cx.publish(file, &frames.iter().map(|f| format!("{f} ")).collect::<String>());
}

fn run(cx: &mut Context) {
    let area = Area::anonymous(PAGES * PAGE);
    // Frames can only be compared page by page.
    check!(area.advise(libc::MADV_NOHUGEPAGE).is_ok(), "MADV_NOHUGEPAGE");
    area.fill(1);
    // The children write to the last quarter, each its own.
    let (common, own) = (area.pages(0, PAGES * 3 / 4), area.pages(PAGES * 3 / 4, PAGES / 4));
    let children: Vec<i32> = (0..CHILDREN)
        .map(|number| {
            let child = cx.fork(|cx| {
                own.fill(10 + number as u64);
                cx.arrive(sys::gettid());
                crate::context::until("the parent's frames", || cx.path("frames").exists());
                compare_frames(cx, common, "frames", &format!("child {number}"));
                common.verify(1, "common pages");
                own.verify(10 + number as u64, "pages of its own");
                common.write(0, number as u64);
                check_eq!(common.read(0), number as u64, "a word written afterwards");
            });
            cx.await_arrival(child);
            child
        })
        .collect();

    cx.ready_and_wait();

    note_frames(cx, common, "frames");
    children.iter().for_each(|&c| cx.reap(c));
    area.verify(1, "the parent's pages");
}
