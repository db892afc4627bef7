//! Restartable sequences, which libc registers for every thread.
//!
//! Verified: registration is still there (a second one is refused as busy), and `cpu_id` follows the
//! thread when it is moved to another CPU.
//! CRIU: works.

use std::ptr;

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use crate::context::until;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).missing(|| {
    let found = area().is_some();
    (!found).then(|| "libc does not register rseq here".into())
});

unsafe extern "C" {
    // Where libc keeps the thread's area, from its thread pointer; its size, 0 without rseq.
    safe static __rseq_offset: isize;
    safe static __rseq_size: u32;
}

/// `cpu_id` of this thread's area (`struct rseq`, the second word).
pub(super) fn area() -> Option<*const u32> {
    let thread_pointer: usize;
    // SAFETY: the first word at the thread pointer is its own address (x86-64 TLS ABI).
    unsafe {
        std::arch::asm!("mov {}, fs:[0]", out(reg) thread_pointer, options(nostack, readonly))
    };
    let start = thread_pointer.checked_add_signed(__rseq_offset)?;
    (__rseq_size > 0).then(|| ptr::with_exposed_provenance::<u32>(start))
}

fn follows(who: &str) {
    let Some(area) = area() else { return };
    let all = sched_getaffinity(None).expect("sched_getaffinity");
    for cpu in (0..CpuSet::MAX_CPU).filter(|&c| all.is_set(c)) {
        let mut one = CpuSet::new();
        one.set(cpu);
        sched_setaffinity(None, &one).expect("sched_setaffinity");
        until("the move to another CPU", || sched_getcpu() == cpu);
        // SAFETY: the area lives as long as the thread; the kernel writes it, hence volatile.
        let seen = unsafe { area.add(1).read_volatile() };
        check_eq!(seen as usize, cpu, "cpu_id of {who}");
    }
    sched_setaffinity(None, &all).expect("sched_setaffinity");
    // SAFETY: a registration at any other address is refused while there is one.
    let again = unsafe { libc::syscall(libc::SYS_rseq, area.wrapping_add(64), 32, 0, 0x5305_3053) };
    let error = std::io::Error::last_os_error().raw_os_error();
    check_eq!((again, error), (-1, Some(libc::EINVAL)), "registering again for {who}");
}

fn run(cx: &mut Context) {
    let (thread, _) = cx.thread(|cx| {
        cx.arrive(sys::gettid());
        cx.wait_go();
        follows("the thread");
    });
    cx.ready_and_wait();
    follows("the main thread");
    check!(thread.join().is_ok(), "the thread panicked");
}
