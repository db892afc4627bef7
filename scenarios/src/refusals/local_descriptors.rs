//! A local descriptor table, made by `modify_ldt(2)`.
//!
//! Verified: the dump is refused, naming process and kind; the target goes on and has its table.
//! CRIU: loses it.

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused_task("local descriptor table").missing(|| {
        let there = read().is_ok();
        (!there).then(|| "the kernel has no modify_ldt".into())
    });

fn read() -> std::io::Result<u64> {
    let mut first = 0_u64;
    // SAFETY: the kernel writes at most eight bytes to `first`.
    sys::done(unsafe { libc::syscall(libc::SYS_modify_ldt, 0, &raw mut first, 8_usize) })?;
    Ok(first)
}

fn run(cx: &mut Context) {
    // `struct user_desc`: number, base, limit, and that it is a 32-bit one.
    let segment: [u32; 4] = [0, 0x1234_5000, 0xfff, 1];
    // SAFETY: the kernel reads `segment`, which nothing is ever loaded from.
    let made = unsafe {
        libc::syscall(libc::SYS_modify_ldt, 0x11, segment.as_ptr(), size_of_val(&segment))
    };
    check_eq!(made, 0, "modify_ldt");
    let before = read().expect("modify_ldt");
    cx.ready_and_wait();
    check_eq!(read().expect("modify_ldt"), before, "the first descriptor");
}
