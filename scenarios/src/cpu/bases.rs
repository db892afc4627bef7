//! The fs and gs bases. libc uses fs for thread-local storage; gs is free, and set here.
//!
//! Verified: both bases by `arch_prctl` and by loading through gs, in two threads.
//! CRIU: works.

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// `arch/x86/include/uapi/asm/prctl.h`.
const ARCH_SET_GS: i32 = 0x1001;
const ARCH_GET_FS: i32 = 0x1003;
const ARCH_GET_GS: i32 = 0x1004;

fn get(code: i32) -> usize {
    let mut base = 0usize;
    // SAFETY: the kernel writes one word.
    check_eq!(unsafe { libc::syscall(libc::SYS_arch_prctl, code, &raw mut base) }, 0, "arch_prctl");
    base
}

/// Sets gs to a page with a pattern; returns (gs, fs).
fn set(area: Area, seed: u64) -> (usize, usize) {
    area.fill(seed);
    // SAFETY: nothing in a Rust program on Linux uses gs.
    let result = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, area.start()) };
    check_eq!(result, 0, "ARCH_SET_GS");
    (get(ARCH_GET_GS), get(ARCH_GET_FS))
}

fn verify(area: Area, expected: (usize, usize), who: &str) {
    check_eq!((get(ARCH_GET_GS), get(ARCH_GET_FS)), expected, "gs and fs base of {who}");
    let word: u64;
    // SAFETY: gs points at the area, which stays mapped; were it wrong, the crash would tell.
    unsafe { std::arch::asm!("mov {}, gs:[64]", out(reg) word, options(nostack, readonly)) };
    check_eq!(word, area.read(64), "word through gs of {who}");
}

fn run(cx: &mut Context) {
    let (thread, _) = cx.thread(|cx| {
        let area = Area::anonymous(PAGE);
        let expected = set(area, 5);
        cx.arrive(sys::gettid());
        cx.wait_go();
        verify(area, expected, "the thread");
    });
    let area = Area::anonymous(PAGE);
    let expected = set(area, 6);
    cx.ready_and_wait();
    verify(area, expected, "the main thread");
    check!(thread.join().is_ok(), "the thread panicked");
}
