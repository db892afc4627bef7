//! Named fifos: both ends open with bytes inside; opened read-write; with the name removed.
//!
//! Verified: bytes, in order; new ones pass; another process can open the named one by its name and
//! meets this one.
//! CRIU: works.

use std::fs::{self, File};
use std::io::{Read, Write};

use rustix::fs::{CWD, Mode, OFlags, mkfifoat, open};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let make = |name: &str, bytes: &[u8]| {
        let path = cx.path(name);
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).expect("mkfifo");
        // Non-blocking, as no writer is there yet; reads of nothing must not block either.
        let reader = File::from(
            open(&path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).expect("open"),
        );
        let mut writer = File::from(open(&path, OFlags::WRONLY, Mode::empty()).expect("open"));
        writer.write_all(bytes).expect("write");
        (reader, writer)
    };
    let (mut named, mut named_writer) = make("named", b"in a named fifo");
    let (mut removed, mut removed_writer) = make("removed", b"without a name");
    fs::remove_file(cx.path("removed")).expect("unlink");
    let both = cx.path("both");
    mkfifoat(CWD, &both, Mode::RUSR | Mode::WUSR).expect("mkfifo");
    let mut both = File::from(open(&both, OFlags::RDWR, Mode::empty()).expect("open"));
    both.write_all(b"to and fro").expect("write");

    cx.ready_and_wait();

    let text = |file: &mut File| {
        let mut bytes = [0; 100];
        file.read(&mut bytes)
            .map(|n| String::from_utf8_lossy(&bytes[..n]).into_owned())
            .map_err(|e| e.raw_os_error())
    };
    check_eq!(text(&mut named).as_deref(), Ok("in a named fifo"), "bytes of the named fifo");
    check_eq!(
        text(&mut removed).as_deref(),
        Ok("without a name"),
        "bytes of the one without a name"
    );
    check_eq!(text(&mut both).as_deref(), Ok("to and fro"), "bytes of the one opened read-write");
    check_eq!(text(&mut named), Err(Some(libc::EAGAIN)), "the named fifo, once drained");
    for (reader, writer) in [(&mut named, &mut named_writer), (&mut removed, &mut removed_writer)] {
        check!(writer.write_all(b"later").is_ok(), "writing afterwards");
        check_eq!(text(reader).as_deref(), Ok("later"), "what was written afterwards");
    }
    let by_name = File::options()
        .write(true)
        .open(cx.path("named"))
        .and_then(|mut f| f.write_all(b"by name"));
    check!(by_name.is_ok(), "writing by name: {by_name:?}");
    check_eq!(text(&mut named).as_deref(), Ok("by name"), "what was written by name");
    drop(named_writer);
    check_eq!(text(&mut named).as_deref(), Ok(""), "end of file without writers");
    check!(!cx.path("removed").exists(), "the removed fifo has its name again");
}
