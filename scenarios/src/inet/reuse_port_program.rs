//! UDP sockets that share a port, and a program that chooses among them by the first byte of a
//! datagram (`SO_ATTACH_REUSEPORT_CBPF`); they were bound in another order than they were made in.
//!
//! Verified: every datagram comes to whom the program says.
//! CRIU: loses the program.

use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{SocketType, bind};

use super::place::{inet, set, v4};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

/// What is bound first, second and last, by the order in which they were made.
const ORDER: [usize; 3] = [2, 0, 1];

/// Load the first byte, and return it.
fn attach(socket: &OwnedFd) -> i32 {
    let code = |code| libc::sock_filter { code, jt: 0, jf: 0, k: 0 };
    let mut program = [code(0x30), code(0x16)];
    let program = libc::sock_fprog { len: 2, filter: program.as_mut_ptr() };
    // SAFETY: the kernel reads the program, which is as long as it says.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    }
}

fn run(cx: &mut Context) {
    let sockets = [(); 3].map(|()| inet(false, SocketType::DGRAM, None));
    for socket in &sockets {
        set(socket, (libc::SOL_SOCKET, libc::SO_REUSEPORT), 1);
    }
    for place in ORDER {
        bind(&sockets[place], &v4(cx, 0)).expect("bind");
    }
    check_eq!(attach(&sockets[0]), 0, "SO_ATTACH_REUSEPORT_CBPF");
    let sockets = sockets.map(UdpSocket::from);
    for socket in &sockets {
        socket.set_nonblocking(true).expect("fcntl");
    }
    check_chosen(cx, &sockets);

    cx.ready_and_wait();

    check_chosen(cx, &sockets);
}

fn check_chosen(cx: &Context, sockets: &[UdpSocket; 3]) {
    let sender = UdpSocket::bind(v4(cx, 1)).expect("bind");
    for (number, chosen) in (0_u8..).zip(ORDER) {
        sender.send_to(&[number], v4(cx, 0)).expect("send");
        for (place, socket) in sockets.iter().enumerate() {
            let mut bytes = [9];
            let came = socket.recv(&mut bytes).ok().map(|_| bytes[0]);
            check_eq!(came, (place == chosen).then_some(number), "what socket {place} has");
        }
    }
}
