//! Capability sets, each different: permitted, effective, inheritable, ambient, bounding.
//!
//! Verified: the five Cap lines of `status`; a dropped capability is dropped, one that is only
//! permitted can be raised.
//! CRIU: works.

use crate::{Context, Scenario, Users, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).users(Users::Root);

/// `include/uapi/linux/capability.h`.
const NET_BIND: u64 = 1 << 10;
const NET_RAW: u64 = 1 << 13;
const SYS_CHROOT: u64 = 1 << 18;
const SYS_NICE: u64 = 1 << 23;
const CHOWN: u64 = 1;

/// permitted, effective, inheritable.
fn set(sets: [u64; 3]) -> i64 {
    let header = [0x2008_0522u32, 0];
    let half = |shift: u32| [1, 0, 2].map(|i| (sets[i] >> shift) as u32);
    let data = [half(0), half(32)];
    // SAFETY: version 3 has a header of two words and data of six: effective, permitted,
    // inheritable, first the lower halves.
    unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) }
}

fn run(cx: &mut Context) {
    let permitted = NET_BIND | NET_RAW | SYS_CHROOT | SYS_NICE;
    // SAFETY: plain numbers.
    let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, 0, 0, 0, 0) };
    check_eq!(dropped, 0, "PR_CAPBSET_DROP of CAP_CHOWN");
    check_eq!(set([permitted, NET_BIND | SYS_CHROOT, NET_RAW | NET_BIND]), 0, "capset");
    // SAFETY: plain numbers; CAP_NET_RAW is number 13.
    let raised = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, 13, 0, 0) };
    check_eq!(raised, 0, "PR_CAP_AMBIENT_RAISE");
    let before = sys::credentials();

    cx.ready_and_wait();

    check_eq!(sys::credentials(), before, "credentials");
    check_eq!(set([permitted | CHOWN, 0, 0]), -1, "getting a dropped capability back");
    check_eq!(set([permitted, permitted, 0]), 0, "raising what is permitted");
    check!(rustix::process::chroot("/").is_ok(), "chroot with CAP_SYS_CHROOT");
}
