//! Strict mode: nothing but read, write and exit.
//!
//! Verified: a process goes on to read and write, and is killed for anything else.
//! CRIU: works.

use std::io::{Read, Write};

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (mut to_parent, mut to_child) =
        (std::io::pipe().expect("a pipe"), std::io::pipe().expect("a pipe"));
    let child = cx.fork(|_| {
        // SAFETY: plain numbers.
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) };
        let mut byte = [0];
        for _ in 0..2 {
            check!(to_parent.1.write_all(&byte).is_ok(), "telling the parent");
            check!(to_child.0.read_exact(&mut byte).is_ok(), "hearing the parent");
        }
        let _ = sys::bare_call(libc::SYS_getuid);
        check!(false, "it may do anything");
    });
    let mut byte = [0];
    check!(to_parent.0.read_exact(&mut byte).is_ok(), "hearing the child");
    cx.await_blocked(child, libc::SYS_read);

    cx.ready_and_wait();

    check!(to_child.1.write_all(&[7]).is_ok(), "telling the child");
    check!(to_parent.0.read_exact(&mut byte).is_ok(), "hearing the child");
    check_eq!(byte, [7], "what the child says");
    let line = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
    check!(line.contains("Seccomp:\t1\n"), "the child's mode is not strict: {line}");
    check!(to_child.1.write_all(&[8]).is_ok(), "telling the child");
    check_eq!(sys::wait_status(child), Ok(libc::SIGKILL), "how the child ends");
}
