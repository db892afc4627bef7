//! A thread that gets a signal for `cpuid` (`ARCH_SET_CPUID`), beside one that does not.
//!
//! Verified: what the kernel says of both.
//! CRIU: loses it.

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).missing(missing);

const ARCH_GET_CPUID: i32 = 0x1011;
const ARCH_SET_CPUID: i32 = 0x1012;

fn call(code: i32) -> i64 {
    // SAFETY: plain numbers; no code of this program asks the processor anything while it must not.
    unsafe { libc::syscall(libc::SYS_arch_prctl, code, 0) }
}

/// Whether the processor cannot, told by a child that tries.
fn missing() -> Option<String> {
    let child = sys::fork();
    if child == 0 {
        sys::exit(i32::from(call(ARCH_SET_CPUID) != 0));
    }
    (sys::wait_status(child) != Ok(0)).then(|| "the processor has no CPUID faulting".to_owned())
}

fn run(cx: &mut Context) {
    let (thread, _) = cx.thread(|cx| {
        check_eq!(call(ARCH_SET_CPUID), 0, "ARCH_SET_CPUID");
        cx.arrive(sys::gettid());
        cx.wait_go();
        check_eq!(call(ARCH_GET_CPUID), 0, "cpuid in the thread");
    });
    cx.ready_and_wait();
    check_eq!(call(ARCH_GET_CPUID), 1, "cpuid in the leader");
    thread.join().expect("the thread does not panic");
}
