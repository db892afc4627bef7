//! The memory policy of a thread.
//!
//! Verified: mode and nodes, of a thread that has one and of the leader that has none.
//! CRIU: loses it.

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).missing(|| {
    let there = get().is_ok();
    (!there).then(|| "the kernel knows no memory policies".into())
});

const MPOL_PREFERRED_MANY: i32 = 5;

fn get() -> std::io::Result<(i32, u64)> {
    let (mut mode, mut nodes) = (0_i32, [0_u64; 16]);
    let asked = unsafe {
        // SAFETY: the kernel writes an int, and a bit for each of 1024 nodes.
        libc::syscall(libc::SYS_get_mempolicy, &raw mut mode, nodes.as_mut_ptr(), 1024, 0, 0)
    };
    sys::done(asked)?;
    Ok((mode, nodes[0]))
}

fn run(cx: &mut Context) {
    let (thread, _) = cx.thread(|cx| {
        let nodes = [1_u64; 1];
        let set = unsafe {
            // SAFETY: the kernel reads 63 bits.
            libc::syscall(libc::SYS_set_mempolicy, MPOL_PREFERRED_MANY, nodes.as_ptr(), 64)
        };
        check_eq!(set, 0, "set_mempolicy");
        cx.arrive(sys::gettid());
        crate::context::until_forever(|| cx.gone());
        check_eq!(get().ok(), Some((MPOL_PREFERRED_MANY, 1)), "of the thread");
    });
    cx.ready_and_wait();
    check_eq!(get().ok(), Some((0, 0)), "of the leader");
    check!(thread.join().is_ok(), "the thread panicked");
}
