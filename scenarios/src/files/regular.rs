//! Regular files at an offset, with each access mode and some status flags.
//!
//! Verified: flags by `F_GETFL`, close-on-exec by `F_GETFD`, offset, what is read from there, what
//! may not be read or written, where appended data goes.
//! CRIU: works.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};

use rustix::fs::{Mode, OFlags, fcntl_getfl};
use rustix::io::{FdFlags, fcntl_getfd};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

const TEXT: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

fn run(cx: &mut Context) {
    let modes = [
        ("read", OFlags::RDONLY),
        ("write", OFlags::WRONLY),
        ("both", OFlags::RDWR | OFlags::CLOEXEC),
        ("append", OFlags::RDWR | OFlags::APPEND),
        ("noatime", OFlags::RDONLY | OFlags::NOATIME | OFlags::NONBLOCK),
        ("sync", OFlags::WRONLY | OFlags::DSYNC | OFlags::CLOEXEC),
    ];
    let mut open: Vec<(&str, OFlags, File)> = Vec::new();
    for (index, (name, flags)) in modes.into_iter().enumerate() {
        let path = cx.path(name);
        fs::write(&path, TEXT).expect("write");
        let mut file = File::from(rustix::fs::open(&path, flags, Mode::empty()).expect("open"));
        file.seek(SeekFrom::Start(3 + index as u64)).expect("seek");
        open.push((name, fcntl_getfl(&file).expect("F_GETFL"), file));
    }

    cx.ready_and_wait();

    for (index, (name, flags, file)) in open.iter_mut().enumerate() {
        check_eq!(fcntl_getfl(&*file), Ok(*flags), "flags of {name}");
        let cloexec = if modes[index].1.contains(OFlags::CLOEXEC) {
            FdFlags::CLOEXEC
        } else {
            FdFlags::empty()
        };
        check_eq!(fcntl_getfd(&*file), Ok(cloexec), "close-on-exec of {name}");
        check_eq!(file.stream_position().ok(), Some(3 + index as u64), "offset of {name}");
        let mut byte = [0];
        let read = file.read(&mut byte).map(|n| (n, byte[0]));
        if flags.contains(OFlags::WRONLY) {
            check!(read.is_err(), "{name} can be read: {read:?}");
        } else {
            check_eq!(read.ok(), Some((1, TEXT[3 + index])), "byte at the offset of {name}");
        }
        let wrote = file.write(b"!").ok();
        let may = flags.intersects(OFlags::WRONLY | OFlags::RDWR);
        check_eq!(wrote, may.then_some(1), "writing to {name}");
    }
    check_eq!(fs::read(cx.path("append")).expect("read"), [TEXT, b"!"].concat(), "appended file");
    let mut written = TEXT.to_vec();
    written[3 + 1] = b'!';
    check_eq!(fs::read(cx.path("write")).expect("read"), written, "written file");
}
