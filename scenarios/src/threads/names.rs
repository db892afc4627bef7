//! The names of threads: each its own, with unusual bytes, of the greatest length, empty.
//!
//! Verified: `PR_GET_NAME` in each.
//! CRIU: works.

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const NAMES: [&[u8]; 5] = [b"worker 1", b"fifteen bytes ..", b"", b") S 1 2 (", b"\xff\xfe\n\\"];

fn get() -> [u8; 16] {
    let mut name = [0; 16];
    // SAFETY: the kernel writes at most 16 bytes.
    check_eq!(unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) }, 0, "PR_GET_NAME");
    name
}

fn set(name: &[u8]) -> [u8; 16] {
    let mut bytes = [0; 16];
    let len = name.len().min(15);
    bytes[..len].copy_from_slice(&name[..len]);
    // SAFETY: the kernel reads up to the first NUL, within the array.
    check_eq!(unsafe { libc::prctl(libc::PR_SET_NAME, bytes.as_ptr()) }, 0, "PR_SET_NAME");
    bytes
}

fn run(cx: &mut Context) {
    let threads = NAMES.map(|name| {
        cx.thread(move |cx| {
            let expected = set(name);
            cx.arrive(sys::gettid());
            cx.wait_go();
            check_eq!(get(), expected, "name of a thread");
        })
    });
    let expected = set(b"main one");
    cx.ready_and_wait();
    check_eq!(get(), expected, "name of the main thread");
    for (thread, _) in threads {
        check!(thread.join().is_ok(), "a thread panicked");
    }
}
