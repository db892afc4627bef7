//! Leases: one for reading, one for writing, with a signal of its own.
//!
//! Verified: `F_GETLEASE`; an open that conflicts is refused and breaks the lease; the holder is told by
//! the signal that it had chosen.
//! CRIU: works.

use std::fs::{self, File};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::fs::{Mode, OFlags};

use super::number;
use crate::context::until;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).options(&["--file-locks"]);

const F_SETLEASE: i32 = 1024;
const F_GETLEASE: i32 = 1025;
const F_SETSIG: i32 = 10;

static TOLD: AtomicI32 = AtomicI32::new(0);

extern "C" fn count(signal: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    TOLD.store(signal, Ordering::SeqCst);
}

fn run(cx: &mut Context) {
    let (read, written) = (cx.path("read"), cx.path("written"));
    fs::write(&read, "for reading").expect("write");
    fs::write(&written, "for writing").expect("write");
    let reader = File::open(&read).expect("open");
    let writer = File::options().write(true).open(&written).expect("open");
    sys::handle(libc::SIGIO, count, 0);
    sys::handle(libc::SIGUSR1, count, 0);
    check_eq!(number(&reader, F_SETLEASE, libc::F_RDLCK), Ok(0), "a lease for reading");
    check_eq!(number(&writer, F_SETLEASE, libc::F_WRLCK), Ok(0), "a lease for writing");
    check_eq!(number(&writer, F_SETSIG, libc::SIGUSR1), Ok(0), "F_SETSIG");
    cx.ready_and_wait();
    check_eq!(TOLD.load(Ordering::SeqCst), 0, "signals so far");
    check_eq!(number(&reader, F_GETLEASE, 0), Ok(libc::F_RDLCK), "the lease for reading");
    check_eq!(number(&writer, F_GETLEASE, 0), Ok(libc::F_WRLCK), "the lease for writing");
    for (path, access, signal) in
        [(&read, OFlags::WRONLY, libc::SIGIO), (&written, OFlags::RDONLY, libc::SIGUSR1)]
    {
        let opened = rustix::fs::open(path, access | OFlags::NONBLOCK, Mode::empty()).map(drop);
        check_eq!(opened, Err(rustix::io::Errno::AGAIN), "an open that conflicts");
        until("the signal", || TOLD.load(Ordering::SeqCst) == signal);
    }
    check_eq!(number(&reader, F_GETLEASE, 0), Ok(libc::F_UNLCK), "what is left for reading");
    check_eq!(number(&writer, F_GETLEASE, 0), Ok(libc::F_RDLCK), "what is left for writing");
}
