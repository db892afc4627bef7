//! Many files, each open and mapped.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use crate::Context;
use crate::sys::{Area, PAGE};

pub(super) fn run(cx: &mut Context, size: usize) {
    super::limit::raise_descriptors();
    let text = |number: usize| format!("{number:08}").repeat(PAGE / 8);
    let all: Vec<(File, Area)> = (0..size)
        .map(|number| {
            let path = cx.path(&format!("file-{number}"));
            std::fs::write(&path, text(number)).expect("the state directory is writable");
            let file = File::open(path).expect("open");
            let area = Area::map(PAGE, libc::PROT_READ, libc::MAP_SHARED, Some((file.as_fd(), 0)));
            (file, area)
        })
        .collect();
    cx.ready_and_wait();
    for (number, (mut file, area)) in all.into_iter().enumerate() {
        let mut found = String::new();
        check!(file.read_to_string(&mut found).is_ok(), "reading file {number}");
        check!(found == text(number), "file {number} has other contents");
        check!(area.bytes() == text(number).as_bytes(), "mapping {number} has other contents");
    }
}
