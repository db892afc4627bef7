//! A lease that is being broken by a child, which waits in `open(2)`.
//!
//! Verified: the holder is not told again; the lease is still being broken, and the child waits until
//! the holder has given it up.
//! CRIU: works; the child's open is made again.

use std::fs::{self, File};
use std::sync::atomic::{AtomicI32, Ordering};

use super::number;
use crate::context::until;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).options(&["--file-locks"]);

const F_SETLEASE: i32 = 1024;
const F_GETLEASE: i32 = 1025;

static TOLD: AtomicI32 = AtomicI32::new(0);

extern "C" fn count(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    TOLD.fetch_add(1, Ordering::SeqCst);
}

fn run(cx: &mut Context) {
    let path = cx.path("leased");
    fs::write(&path, "leased").expect("write");
    let leased = File::open(&path).expect("open");
    sys::handle(libc::SIGIO, count, libc::SA_RESTART);
    check_eq!(number(&leased, F_SETLEASE, libc::F_RDLCK), Ok(0), "a lease for reading");
    let child = cx.fork(|cx| {
        let opened = File::options().write(true).open(&path);
        check!(opened.is_ok(), "the open that waited: {opened:?}");
        check!(cx.path("given.up").exists(), "the open did not wait");
    });
    until("the signal", || TOLD.load(Ordering::SeqCst) == 1);
    cx.await_blocked(child, libc::SYS_openat);
    cx.ready_and_wait();
    check_eq!(number(&leased, F_GETLEASE, 0), Ok(libc::F_UNLCK), "what will be left");
    sys::nap(std::time::Duration::from_millis(30));
    check_eq!(TOLD.load(Ordering::SeqCst), 1, "signals");
    cx.publish("given.up", "");
    check_eq!(number(&leased, F_SETLEASE, libc::F_UNLCK), Ok(0), "giving it up");
    cx.reap(child);
}
