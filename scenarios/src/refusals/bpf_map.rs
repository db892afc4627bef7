//! A BPF map that is neither a hash nor an array: a hash that forgets what is
//! not used.
//!
//! Verified: the dump is refused, naming process, descriptor and kind; the target goes on and the
//! object works.
//! CRIU: refuses.

use super::at_42;
use crate::{Context, Scenario, Users};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused("bpf").users(Users::Root).missing(|| {
        let works = create().is_ok();
        (!works).then(|| "BPF maps are not available".into())
    });

/// Calls `bpf(2)` with the beginning of its attributes.
fn bpf(command: i32, attributes: &[u64; 4]) -> std::io::Result<i64> {
    // SAFETY: the attributes live over the call, and their addresses point to words that do.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes))
    };
    crate::sys::done(result)
}

fn create() -> std::io::Result<i32> {
    // BPF_MAP_CREATE: such a hash (9) with keys of 4 bytes, values of 8, 16 entries.
    bpf(0, &[9 | 4 << 32, 8 | 16 << 32, 0, 0]).map(|fd| fd as i32)
}

fn run(cx: &mut Context) {
    at_42(create().expect("BPF_MAP_CREATE"));
    let (key, value, mut found) = (3u32, 0x1234u64, 0u64);
    let attributes = |value: usize| [42, (&raw const key).addr() as u64, value as u64, 0];
    check!(bpf(2, &attributes((&raw const value).addr())).is_ok(), "BPF_MAP_UPDATE_ELEM");
    cx.ready_and_wait();
    check!(
        bpf(1, &attributes((&raw mut found).expose_provenance())).is_ok(),
        "BPF_MAP_LOOKUP_ELEM"
    );
    check_eq!(std::hint::black_box(found), value, "value in the map");
}
