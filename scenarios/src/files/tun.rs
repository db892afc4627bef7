//! Queues of interfaces that stay by themselves: a tun with several, one of them out of use; a tap
//! with headers of virtio; and a queue that belongs to none yet.
//!
//! Verified: the interface of each and its flags; size of the headers, and of the buffer; that the one
//! without can still be given one, and that a queue can be taken into use again.
//! CRIU: only with the network namespace.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};

use crate::facts::Users;
use crate::sys::done;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).missing(|| {
        let file = open().and_then(|file| interface(&file, "dormouse-try", IFF_TUN));
        file.err().map(|error| format!("no interface can be made: {error}"))
    });

// include/uapi/linux/if_tun.h
pub(crate) const IFF_TUN: i16 = 1;
const IFF_TAP: i16 = 2;
const MULTI_QUEUE: i16 = 0x100;
const ATTACH_QUEUE: i16 = 0x200;
const DETACH_QUEUE: i16 = 0x400;
const NO_PI: i16 = 0x1000;
const VNET_HDR: i16 = 0x4000;
const TUNSETIFF: u64 = 0x4004_54ca;
const TUNSETPERSIST: u64 = 0x4004_54cb;
const TUNGETIFF: u64 = 0x8004_54d2;
const TUNGETSNDBUF: u64 = 0x8004_54d3;
const TUNSETSNDBUF: u64 = 0x4004_54d4;
const TUNGETVNETHDRSZ: u64 = 0x8004_54d7;
const TUNSETVNETHDRSZ: u64 = 0x4004_54d8;
const TUNSETQUEUE: u64 = 0x4004_54d9;

pub(crate) fn open() -> std::io::Result<File> {
    File::options().read(true).write(true).open("/dev/net/tun")
}

/// `struct ifreq`.
fn request(file: &File, number: u64, name: &str, flags: i16) -> std::io::Result<(String, i16)> {
    let mut bytes = [0_u8; 40];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes[16..18].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: the structure lives over the call.
    done(unsafe { libc::ioctl(file.as_raw_fd(), number, bytes.as_mut_ptr()) })?;
    let name = String::from_utf8_lossy(&bytes[..16]).trim_end_matches('\0').to_owned();
    Ok((name, i16::from_ne_bytes([bytes[16], bytes[17]])))
}

pub(crate) fn interface(file: &File, name: &str, flags: i16) -> std::io::Result<()> {
    request(file, TUNSETIFF, name, flags).map(drop)
}

fn number(file: &File, request: u64, mut value: i32) -> std::io::Result<i32> {
    // SAFETY: the number lives over the call.
    done(unsafe { libc::ioctl(file.as_raw_fd(), request, &raw mut value) })?;
    Ok(value)
}

fn persist(file: &File, on: usize) {
    // SAFETY: a plain number.
    let set = done(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETPERSIST, on) });
    check_eq!(set.is_ok(), true, "TUNSETPERSIST");
}

fn run(cx: &mut Context) {
    let me = std::process::id();
    let (tun, tap) = (format!("dmtun{me}"), format!("dmtap{me}"));
    let all = [0; 5].map(|_| open().expect("open"));
    let [one, two, unused, frames, none] = &all;
    let flags = IFF_TUN | MULTI_QUEUE | NO_PI;
    interface(one, &tun, flags).expect("TUNSETIFF");
    persist(one, 1);
    for more in [two, unused] {
        interface(more, &tun, flags).expect("TUNSETIFF");
    }
    request(unused, TUNSETQUEUE, "", DETACH_QUEUE).expect("TUNSETQUEUE");
    interface(frames, &tap, IFF_TAP | VNET_HDR).expect("TUNSETIFF");
    persist(frames, 1);
    number(frames, TUNSETVNETHDRSZ, 12).expect("TUNSETVNETHDRSZ");
    number(frames, TUNSETSNDBUF, 1 << 20).expect("TUNSETSNDBUF");
    let told = || {
        all.each_ref().map(|file| {
            let error = |error: std::io::Error| error.raw_os_error();
            (
                request(file, TUNGETIFF, "", 0).map_err(error),
                number(file, TUNGETSNDBUF, 0).map_err(error),
                number(file, TUNGETVNETHDRSZ, 0).map_err(error),
            )
        })
    };
    let before = told();

    cx.ready_and_wait();

    check_eq!(told(), before, "queues");
    check_eq!(request(unused, TUNSETQUEUE, "", ATTACH_QUEUE).is_ok(), true, "into use again");
    check_eq!(interface(none, &tun, flags).is_ok(), true, "giving the last one an interface");
    persist(one, 0);
    persist(frames, 0);
}

/// A queue of an interface that goes with it, under a number.
pub(crate) fn fleeting(name: &str, fd: i32) -> File {
    let file = open().expect("open");
    interface(&file, name, IFF_TUN).expect("TUNSETIFF");
    crate::sys::dup2(file.as_raw_fd(), fd);
    // SAFETY: it was put there.
    unsafe { File::from_raw_fd(fd) }
}
