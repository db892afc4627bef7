//! A process at its limit of address space (`RLIMIT_AS`), which nobody may raise: dormouse has no
//! `CAP_SYS_RESOURCE` here.
//!
//! Verified: the dump is refused, naming process and limit, which is what it was.
//! CRIU: refuses to dump it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused_task("limit AddressSpace").missing(|| {
        const SYS_RESOURCE: i32 = 24;
        // SAFETY: plain numbers.
        let has = unsafe { libc::prctl(libc::PR_CAPBSET_READ, SYS_RESOURCE) };
        (has == 1).then(|| "root has CAP_SYS_RESOURCE, and may raise it".into())
    });

fn run(cx: &mut Context) {
    let limit = Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) };
    check!(setrlimit(Resource::As, limit).is_ok(), "setrlimit");
    cx.ready_and_wait();
    let found = getrlimit(Resource::As);
    check_eq!((found.current, found.maximum), (Some(1 << 20), Some(1 << 20)), "the limit");
}
