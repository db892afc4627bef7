//! Sockets bound to an interface (`SO_BINDTODEVICE`).
//!
//! Verified: they still are.
//! CRIU: works.

use rustix::net::{SocketType, bind};

use super::place::{inet, option, set_bytes, v4};
use crate::facts::Users;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).dump_faults();

const DEVICE: (i32, i32) = (libc::SOL_SOCKET, libc::SO_BINDTODEVICE);

fn run(cx: &mut Context) {
    let sockets = [SocketType::STREAM, SocketType::DGRAM].map(|kind| inet(false, kind, None));
    for socket in &sockets {
        set_bytes(socket, DEVICE, b"lo");
        bind(socket, &v4(cx, 0)).expect("bind");
    }

    cx.ready_and_wait();

    for socket in &sockets {
        check_eq!(option(socket, DEVICE), Ok(b"lo\0".to_vec()), "the interface");
    }
}
