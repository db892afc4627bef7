//! A soft limit of locked memory (`RLIMIT_MEMLOCK`) that was lowered below what is locked, by a
//! process that has what it maps locked (`MCL_FUTURE`) and no right to do more of that.
//!
//! Verified: contents; that the memory is locked; the limit, above which nothing can be mapped
//! until it is raised again.
//! CRIU: cannot dump it.

use rustix::process::Resource;

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario, Users};

use super::limited::{can_map, lower};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Ordinary).missing(|| {
        let most = rustix::process::getrlimit(Resource::Memlock).maximum;
        let is_low = most.is_some_and(|most| most < 1 << 20);
        is_low.then(|| "less than 1 MiB can be locked".into())
    });

fn run(cx: &mut Context) {
    let area = Area::anonymous(8 * PAGE);
    area.pages(0, 8).fill(1);
    // SAFETY: locking changes no contents.
    let locked = unsafe { libc::mlock(area.pointer().cast(), area.len()) };
    check_eq!(locked, 0, "mlock");
    // SAFETY: the same.
    check_eq!(unsafe { libc::mlockall(libc::MCL_FUTURE) }, 0, "mlockall");
    let limit = lower(Resource::Memlock, 0);

    cx.ready_and_wait();

    check!(!can_map(PAGE), "the limit does not hold");
    limit.verify_and_raise();
    check!(can_map(PAGE), "what is allowed again cannot be mapped");
    area.pages(0, 8).verify(1, "locked memory");
    // SAFETY: there is no file behind the memory whose pages could be dropped.
    let synced = unsafe { libc::msync(area.pointer().cast(), area.len(), libc::MS_INVALIDATE) };
    check_eq!(synced, -1, "msync of locked memory");
}
