//! Real-time signals queue: many of one number, in order, each with a payload.
//!
//! Verified: number, code, sender and payload of every one, in the order they were sent in, for
//! the process's queue and a thread's.
//! CRIU: works.

use crate::sys::SigInfo;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const NUMBERS: [i32; 3] = [36, 50, 64];
const EACH: usize = 40;

/// The payload of the `index`th signal of this number.
fn payload(base: usize, number: i32, index: usize) -> usize {
    base + number as usize * 0x1_0000_0001 + index
}

fn run(cx: &mut Context) {
    let set = sys::sigset(&NUMBERS);
    sys::block(set);
    let (pid, uid) = (std::process::id() as i32, rustix::process::getuid().as_raw());
    // They are sent turn by turn: the order within one number is what the kernel keeps.
    for index in 0..EACH {
        for number in NUMBERS {
            check!(
                sys::queue(pid, None, number, payload(0, number, index)).is_ok(),
                "to the process"
            );
            let own = payload(1 << 50, number, index);
            check!(sys::queue(pid, Some(pid), number, own).is_ok(), "to the thread");
        }
    }

    cx.ready_and_wait();

    // A thread's own come first (`signal(7)`), lower numbers before higher.
    for base in [1 << 50, 0] {
        for number in NUMBERS {
            for index in 0..EACH {
                let value = payload(base, number, index);
                let expected = SigInfo { signo: number, code: libc::SI_QUEUE, pid, uid, value };
                check_eq!(
                    sys::take_signal(sys::sigset(&[number])),
                    Some(expected),
                    "signal {index} of {number}"
                );
            }
        }
    }
    check_eq!(sys::pending() & set, 0, "signals still pending");
}
