//! Datagrams from several senders: bound to paths and abstract names, to none, and closed since.
//!
//! Verified: each message has the address of its sender, in order.
//! CRIU: loses the addresses of senders.

use rustix::net::{RecvFlags, SendFlags, SocketAddrUnix, sendto};

use super::talk::{DATAGRAM, bound, hidden, path, receive, socket};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let to = path(&cx.path("receiver"));
    let receiver = bound(DATAGRAM, &to);
    let addresses =
        [hidden(cx, "one"), path(&cx.path("two")), hidden(cx, "gone"), path(&cx.path("gone"))];
    let mut senders: Vec<_> = addresses.iter().map(|address| bound(DATAGRAM, address)).collect();
    let nameless = socket(DATAGRAM);
    for (number, sender) in senders.iter().enumerate() {
        let sent = sendto(sender, &[number as u8; 5], SendFlags::empty(), &to);
        check_eq!(sent, Ok(5), "sendto");
    }
    check_eq!(sendto(&nameless, b"nobody", SendFlags::empty(), &to), Ok(6), "sendto");
    senders.truncate(2);
    std::fs::remove_file(cx.path("gone")).expect("it is there");

    cx.ready_and_wait();

    let next = || receive(&receiver, 100, RecvFlags::empty()).unwrap_or_default();
    for (number, address) in addresses.iter().enumerate() {
        let got = next();
        check_eq!(got.bytes, [number as u8; 5], "message {number}");
        check_eq!(got.address.as_ref(), Some(address), "sender of message {number}");
    }
    let got = next();
    check_eq!(got.bytes, b"nobody", "the last message");
    check!(got.address.is_none_or(|address| SocketAddrUnix::is_unnamed(&address)), "its sender");
    check!(!cx.path("gone").exists(), "what was removed stays so");
    check_eq!(sendto(&nameless, b"more", SendFlags::empty(), &to), Ok(4), "sendto");
    check_eq!(next().bytes, b"more", "a message sent afterwards");
}
