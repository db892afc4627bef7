//! Much memory of one process: all different, all zero, or scattered.

use crate::Context;
use crate::sys::{Area, PAGE};

const MIB: usize = 1 << 20;
/// What `sparse` scatters its pages over.
const SPACE: usize = 64 << 30;

/// `size` MiB of which no two pages are the same.
pub(super) fn random(cx: &mut Context, size: usize) {
    let area = Area::anonymous(size * MIB);
    area.fill(1);
    cx.ready_and_wait();
    area.verify(1, "memory");
}

/// `size` MiB that were written to and hold nothing but zeros.
pub(super) fn zero(cx: &mut Context, size: usize) {
    let area = Area::anonymous(size * MIB);
    let pages = 0..area.len() / PAGE;
    pages.clone().for_each(|page| area.write(page * PAGE, 0));
    cx.ready_and_wait();
    let wrong = pages.into_iter().find(|page| area.read(page * PAGE) != 0);
    check_eq!(wrong, None, "a page that is not zero");
}

/// `size` pages, spread evenly over a mapping of 64 GiB.
pub(super) fn sparse(cx: &mut Context, size: usize) {
    let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    let area = Area::map(SPACE, libc::PROT_READ | libc::PROT_WRITE, flags, None);
    area.advise(libc::MADV_NOHUGEPAGE).expect("madvise");
    let step = SPACE / PAGE / size;
    let word = |index: usize| index as u64 ^ 0x5eed;
    (0..size).for_each(|index| area.write(index * step * PAGE, word(index)));
    cx.ready_and_wait();
    let wrong = (0..size).find(|&index| area.read(index * step * PAGE) != word(index));
    check_eq!(wrong, None, "a page with other contents");
}
