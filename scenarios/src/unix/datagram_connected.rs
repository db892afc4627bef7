//! Datagram sockets connected to others: one way, to those that have closed, whose names others may have by now.
//!
//! Verified: they are still; whoever is connected hears nobody else; what is sent to one that has closed is
//! refused, and not given to who has its name.
//! CRIU: works, but for the closed ones.

use rustix::io::Errno;
use rustix::net::{SendFlags, connect, send, sendto};

use super::talk::{DATAGRAM, bound, connected, hear, hidden, names, path, ready, silent, socket};

use crate::epoll::watch::{EDGE, Epoll, NOTHING, OUT};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (at, own) = (path(&cx.path("server")), hidden(cx, "client"));
    let server = bound(DATAGRAM, &at);
    let client = bound(DATAGRAM, &own);
    connect(&client, &at).expect("connect");
    let second = connected(DATAGRAM, &at);
    check_eq!(send(&client, b"early", SendFlags::empty()), Ok(5), "send");
    // The paths and names of two are free again, and two have others by now.
    let (here, left) = (cx.path("taken path"), cx.path("left path"));
    let gone = [hidden(cx, "gone"), path(&left), path(&here), hidden(cx, "taken")];
    let closed = gone.each_ref().map(|gone| bound(DATAGRAM, gone));
    let orphans = gone.each_ref().map(|gone| connected(DATAGRAM, gone));
    drop(closed);
    std::fs::remove_file(&here).expect("unlink");
    let heirs = [2, 3].map(|place: usize| bound(DATAGRAM, &gone[place]));
    let watch = Epoll::new();
    for (orphan, data) in orphans.iter().zip(0..) {
        watch.add(orphan, OUT | EDGE, data);
    }
    check_eq!(watch.take().len(), orphans.len(), "edges before");
    let poll = || orphans.each_ref().map(ready);
    let before = poll();

    cx.ready_and_wait();

    check_eq!(poll(), before, "what poll tells of those whose peers have closed");
    check_eq!(watch.take(), NOTHING, "the same edges again");

    check_eq!(names(&client), [Some(own.clone()), Some(at.clone())], "names");
    for (orphan, gone) in orphans.iter().zip(&gone) {
        check_eq!(names(orphan)[1].as_ref(), Some(gone), "name of the one that has closed");
    }
    hear(&server, 100, b"early", "what was sent before");
    check_eq!(send(&second, b"late", SendFlags::empty()), Ok(4), "send");
    hear(&server, 100, b"late", "what was sent afterwards");
    check_eq!(sendto(&server, b"back", SendFlags::empty(), &own), Ok(4), "sendto");
    hear(&client, 100, b"back", "what was sent back");
    let other = socket(DATAGRAM);
    check_eq!(sendto(&other, b"no", SendFlags::empty(), &own), Err(Errno::PERM), "a stranger");
    silent(&client, "after that");
    for orphan in &orphans {
        check_eq!(send(orphan, b"no", SendFlags::empty()), Err(Errno::CONNREFUSED), "to nobody");
    }
    for (heir, name) in heirs.iter().zip(&gone[2..]) {
        silent(heir, "whoever has the name by now");
        check_eq!(sendto(&other, b"to it", SendFlags::empty(), name), Ok(5), "sendto");
        hear(heir, 100, b"to it", "what was sent to the name");
    }
}
