//! What the scenarios about limits that were lowered have in common.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::sys::Area;

/// A limit that was lowered.
pub(super) struct Lowered {
    resource: Resource,
    before: Rlimit,
    now: Rlimit,
}

/// Lowers a soft limit.
pub(super) fn lower(resource: Resource, to: u64) -> Lowered {
    let before = getrlimit(resource);
    let now = Rlimit { current: Some(to), ..before };
    check!(setrlimit(resource, now).is_ok(), "setrlimit to {to}");
    Lowered { resource, before, now }
}

impl Lowered {
    /// It is what it was; from now on it is what it was before.
    pub(super) fn verify_and_raise(&self) {
        let found = getrlimit(self.resource);
        check!(setrlimit(self.resource, self.before).is_ok(), "setrlimit back");
        let text = |limit: &Rlimit| (limit.current, limit.maximum);
        check_eq!(text(&found), text(&self.now), "the limit");
    }
}

/// Whether so many bytes of private memory can be mapped; they are not afterwards.
pub(super) fn can_map(len: usize) -> bool {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    Area::map_at(0, len, access, libc::MAP_PRIVATE, None).map(Area::unmap).is_ok()
}
