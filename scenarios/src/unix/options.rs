//! Options of sockets: buffer sizes, time-outs, switches; status flags and owner.
//!
//! Verified: all read as they were set.
//! CRIU: restores most of them.

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::talk::{DATAGRAM, STREAM, option, pair, set_option};

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// Options and what they are set to.
const OPTIONS: [(i32, i32); 8] = [
    (libc::SO_SNDBUF, 30_000),
    (libc::SO_RCVBUF, 70_000),
    (libc::SO_PASSCRED, 1),
    (libc::SO_RCVLOWAT, 17),
    (libc::SO_KEEPALIVE, 1),
    (libc::SO_TIMESTAMPNS, 1),
    (libc::SO_OOBINLINE, 1),
    (libc::SO_PRIORITY, 3),
];

fn run(cx: &mut Context) {
    let sockets = [pair(STREAM), pair(DATAGRAM)];
    for (socket, plain) in &sockets {
        OPTIONS.into_iter().for_each(|(name, value)| set_option(socket, name, value));
        fcntl_setfl(plain, OFlags::empty()).expect("fcntl");
        fcntl_setfl(socket, OFlags::NONBLOCK | OFlags::ASYNC).expect("fcntl");
        // SAFETY: no memory is involved.
        let owned = unsafe {
            let fd = std::os::fd::AsRawFd::as_raw_fd(socket);
            libc::fcntl(fd, libc::F_SETOWN, sys::own_pid())
        };
        check_eq!(owned, 0, "F_SETOWN");
    }
    let read = || {
        sockets.iter().flat_map(|(socket, plain)| [socket, plain]).map(|socket| {
            let flags = fcntl_getfl(socket).map(|flags| flags.bits());
            // SAFETY: no memory is involved.
            let owner =
                unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(socket), libc::F_GETOWN) };
            (OPTIONS.map(|(name, _)| option(socket, name)), flags, owner)
        })
    };
    let before: Vec<_> = read().collect();

    cx.ready_and_wait();

    for (number, (now, before)) in read().zip(before).enumerate() {
        check_eq!(now, before, "options of socket {number}");
    }
}
