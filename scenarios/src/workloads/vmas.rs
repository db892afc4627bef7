//! A process of many mappings, a page each, of alternating protection.

use crate::Context;
use crate::sys::{Area, PAGE};

pub(super) fn run(cx: &mut Context, size: usize) {
    let prot = |index: usize| match index % 2 {
        0 => libc::PROT_READ | libc::PROT_WRITE,
        _ => libc::PROT_READ,
    };
    let all = Area::anonymous(size * PAGE);
    all.advise(libc::MADV_NOHUGEPAGE).expect("madvise");
    (0..size).for_each(|index| all.write(index * PAGE, index as u64));
    (0..size)
        .filter(|index| index % 2 == 1)
        .for_each(|index| all.pages(index, 1).protect(prot(index)));
    cx.ready_and_wait();
    let wrong = (0..size).find(|&index| all.read(index * PAGE) != index as u64);
    check_eq!(wrong, None, "a mapping with other contents");
    let maps = std::fs::read_to_string("/proc/self/maps").expect("own maps");
    let own = maps.lines().filter(|line| {
        let start = line.split('-').next().and_then(|start| usize::from_str_radix(start, 16).ok());
        start.is_some_and(|start| (all.start()..all.end()).contains(&start))
    });
    check_eq!(own.count(), size, "mappings");
}
