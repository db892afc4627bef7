//! What is left of a wait is put below the stack pointer, on a small stack too.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use dormouse_kernel::ptrace::Registers;
use dormouse_kernel::{Addr, HostPid, remote_memory};
use dormouse_puppet::call_with;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};

const PAGE: usize = 4096;
const RED_ZONE: u64 = 128;
const TIMESPEC: usize = 16;

#[test]
fn what_is_left_of_a_wait_finds_room_on_a_small_stack() {
    // SAFETY: new memory, which nobody else knows of.
    let stack = unsafe {
        let (none, flags) = (std::ptr::null_mut(), MapFlags::PRIVATE);
        let start = mmap_anonymous(none, 9 * PAGE, ProtFlags::empty(), flags).unwrap();
        let top = start.byte_add(8 * PAGE);
        mprotect(top, PAGE, MprotectFlags::READ | MprotectFlags::WRITE).unwrap();
        top.addr() as u64
    };
    let rsp = stack + PAGE as u64 - 64;
    let rax = libc::SYS_rt_sigtimedwait.cast_unsigned();
    let again = Registers { rax, rsp, rdx: 0x1234, ..Registers::default() };
    let own = HostPid::of_self();
    let with = call_with(own, &again, Duration::new(3, 7));
    assert!((stack..rsp - RED_ZONE - TIMESPEC as u64).contains(&with.rdx), "{:x}", with.rdx);
    let mut found = [0; TIMESPEC];
    remote_memory::read_exact(own, Addr::from_raw(with.rdx), &mut found).unwrap();
    let (seconds, nanos) = found.split_at(8);
    assert_eq!((seconds, nanos), (&3_u64.to_ne_bytes()[..], &7_u64.to_ne_bytes()[..]));
    let nowhere = Registers { rsp: 64, ..again };
    assert_eq!(call_with(own, &nowhere, Duration::new(3, 7)).rdx, 0x1234);
}
