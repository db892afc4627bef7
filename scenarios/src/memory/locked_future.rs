//! `mlockall(MCL_FUTURE)`, in a child with `MCL_ONFAULT`: what is mapped from then on is locked.
//!
//! Verified: memory mapped after the checkpoint is there untouched, and with `MCL_ONFAULT` when it
//! is touched; both are locked (`msync(MS_INVALIDATE)` is refused), and memory from before is not.
//! CRIU: forgets it.

use crate::sys::{self, Area, PAGE};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn lock_future(flags: i32) {
    // SAFETY: locking changes no contents.
    let result = unsafe { libc::mlockall(libc::MCL_FUTURE | flags) };
    check_eq!(result, 0, "mlockall with {flags}");
}

fn is_locked(area: Area) -> bool {
    // SAFETY: there is no file behind the memory whose pages could be dropped.
    let result = unsafe { libc::msync(area.pointer().cast(), area.len(), libc::MS_INVALIDATE) };
    result != 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EBUSY)
}

fn run(cx: &mut Context) {
    let before = Area::anonymous(4 * PAGE);
    before.write(0, 1);
    let child = cx.fork(|cx| {
        lock_future(libc::MCL_ONFAULT);
        cx.arrive(sys::gettid());
        cx.wait_go();
        let after = Area::anonymous(4 * PAGE);
        check!(is_locked(after), "memory mapped after MCL_FUTURE | MCL_ONFAULT is not locked");
        check_eq!(sys::present(after), [false; 4], "pages locked on fault");
    });
    cx.await_arrival(child);
    lock_future(0);

    cx.ready_and_wait();

    let after = Area::anonymous(4 * PAGE);
    check!(is_locked(after), "memory mapped after MCL_FUTURE is not locked");
    check_eq!(sys::present(after), [true; 4], "pages of memory mapped after MCL_FUTURE");
    check!(!is_locked(before), "memory from before MCL_FUTURE is locked");
    check_eq!(before.read(0), 1, "memory from before");
    cx.reap(child);
}
