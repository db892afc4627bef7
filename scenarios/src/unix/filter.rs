//! A BPF program that messages of a datagram socket go through (`SO_ATTACH_FILTER`).
//!
//! Verified: what was there before is whole; what comes afterwards is cut by it.
//! CRIU: works.

use std::os::fd::AsRawFd;

use super::talk::{DATAGRAM, hear, pair, send};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (one, other) = pair(DATAGRAM);
    send(&one, b"before the filter", &[]);
    // Return: six bytes of each.
    let mut program = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: 6 }];
    let program = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    // SAFETY: the kernel reads the program, which is as long as it says.
    let done = unsafe {
        libc::setsockopt(
            other.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    check_eq!(done, 0, "SO_ATTACH_FILTER");

    cx.ready_and_wait();

    hear(&other, 100, b"before the filter", "what was sent before");
    check_eq!(rustix::io::write(&one, b"through the filter"), Ok(18), "write");
    hear(&other, 100, b"throug", "what was sent afterwards");
}
