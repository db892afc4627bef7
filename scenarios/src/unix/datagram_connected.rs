//! Datagram sockets connected to others: one way, to one that has closed, to its own.
//!
//! Verified: they are still; whoever is connected hears nobody else.
//! CRIU: works, but for the closed one.

use rustix::io::Errno;
use rustix::net::{SendFlags, connect, send, sendto};

use super::talk::{DATAGRAM, bound, connected, hear, hidden, names, path, silent, socket};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (at, own) = (path(&cx.path("server")), hidden(cx, "client"));
    let server = bound(DATAGRAM, &at);
    let client = bound(DATAGRAM, &own);
    connect(&client, &at).expect("connect");
    let second = connected(DATAGRAM, &at);
    check_eq!(send(&client, b"early", SendFlags::empty()), Ok(5), "send");
    let gone = hidden(cx, "gone");
    let closed = bound(DATAGRAM, &gone);
    let orphan = connected(DATAGRAM, &gone);
    drop(closed);

    cx.ready_and_wait();

    check_eq!(names(&client), [Some(own.clone()), Some(at.clone())], "names");
    check_eq!(names(&orphan)[1].as_ref(), Some(&gone), "name of the one that has closed");
    hear(&server, 100, b"early", "what was sent before");
    check_eq!(send(&second, b"late", SendFlags::empty()), Ok(4), "send");
    hear(&server, 100, b"late", "what was sent afterwards");
    check_eq!(sendto(&server, b"back", SendFlags::empty(), &own), Ok(4), "sendto");
    hear(&client, 100, b"back", "what was sent back");
    let other = socket(DATAGRAM);
    check_eq!(sendto(&other, b"no", SendFlags::empty(), &own), Err(Errno::PERM), "a stranger");
    silent(&client, "after that");
    check_eq!(send(&orphan, b"no", SendFlags::empty()), Err(Errno::CONNREFUSED), "to nobody");
}
