//! A mapping with a NUMA policy of its own (`mbind(2)`).
//!
//! Verified: the dump is refused, naming process and kind; the mapping keeps its policy.
//! CRIU: loses it.

use std::ptr;

use crate::{Context, Scenario, sys, sys::Area};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused_task("a NUMA policy of its own").missing(|| {
        let missing = policy(ptr::null()).is_err();
        missing.then(|| "the kernel knows no nodes".into())
    });

/// `MPOL_F_ADDR`.
const OF_ADDRESS: u64 = 2;

/// The mode of what an address has, or of the thread.
fn policy(address: *const u8) -> std::io::Result<i32> {
    let (mut mode, flags) = (-1, if address.is_null() { 0 } else { OF_ADDRESS });
    let none = ptr::null::<u64>();
    // SAFETY: the kernel writes one `int`.
    let asked = unsafe {
        libc::syscall(libc::SYS_get_mempolicy, &raw mut mode, none, 0_u64, address, flags)
    };
    sys::done(asked).map(|_| mode)
}

fn run(cx: &mut Context) {
    let area = Area::anonymous(2 * sys::PAGE);
    let (at, first_node) = (area.pointer().cast_const(), 1_u64);
    // SAFETY: the mapping is there, and the mask lives over the call.
    let bound = unsafe {
        let mask = &raw const first_node;
        libc::syscall(libc::SYS_mbind, at, sys::PAGE, libc::MPOL_BIND, mask, 64_u64, 0)
    };
    sys::done(bound).expect("mbind");
    cx.ready_and_wait();
    check_eq!(policy(at).map_err(drop), Ok(libc::MPOL_BIND), "the policy of the page");
}
