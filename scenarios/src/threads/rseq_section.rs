//! A thread within the critical section of a restartable sequence.
//!
//! Verified: it is never in there without the kernel knowing: the area says so as long as the thread
//! is inside, and if it is taken out, it goes to the abort handler.
//! CRIU: works.

use std::arch::asm;
use std::sync::atomic::{AtomicU64, Ordering};

use super::rseq::area;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .missing(|| area().is_none().then(|| "libc does not register rseq here".into()));

static STOP: AtomicU64 = AtomicU64::new(0);

/// How the section was left.
const DONE: u64 = 1;
const ABORTED: u64 = 2;
const UNPROTECTED: u64 = 3;

/// `struct rseq_cs`: version and flags, first instruction, length, abort handler.
#[repr(C, align(32))]
struct Section([u64; 4]);

/// Stays in a critical section until it is time to stop, or the kernel takes it out.
fn stay(area: *mut u64, section: &mut Section) -> u64 {
    let left: u64;
    // SAFETY: the area is this thread's own and the section lives over the block, at whose end the
    // area does not refer to it any more; the signature before the abort handler is libc's.
    unsafe {
        asm!(
            "lea {t}, [rip + 20f]",
            "mov [{section} + 8], {t}",
            "lea {left}, [rip + 30f]",
            "sub {left}, {t}",
            "mov [{section} + 16], {left}",
            "lea {t}, [rip + 40f]",
            "mov [{section} + 24], {t}",
            "mov [{area} + 8], {section}",
            "20:",
            "cmp qword ptr [{area} + 8], 0",
            "je 50f",
            "cmp qword ptr [{stop}], 0",
            "je 20b",
            "30:",
            "mov {left}, 1",
            "jmp 60f",
            ".long 0x53053053",
            "40:",
            "mov {left}, 2",
            "jmp 60f",
            "50:",
            "mov {left}, 3",
            "60:",
            "mov qword ptr [{area} + 8], 0",
            area = in(reg) area,
            section = in(reg) section.0.as_mut_ptr(),
            stop = in(reg) STOP.as_ptr(),
            t = out(reg) _,
            left = out(reg) left,
            options(nostack),
        );
    }
    left
}

fn run(cx: &mut Context) {
    let (thread, _) = cx.thread(|cx| {
        let Some(area) = area() else { return };
        let mut section = Section([0; 4]);
        cx.arrive(sys::gettid());
        loop {
            match stay(area.cast_mut().cast(), &mut section) {
                DONE => return,
                ABORTED => {}
                UNPROTECTED => return check!(false, "it was within a section that had ended"),
                other => return check!(false, "it was left by {other}"),
            }
        }
    });
    // It takes but a moment from the arrival to the section.
    sys::nap(std::time::Duration::from_millis(20));
    cx.ready_and_wait();
    STOP.store(1, Ordering::SeqCst);
    check!(thread.join().is_ok(), "the thread panicked");
}
