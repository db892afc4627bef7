//! What datagram sockets were before they are what they are: pairs of which one end has left, or connected
//! elsewhere, or closed with a name; peers that have sent more than fits, after others, or closed since; chains of
//! sockets each connected to the next; a peer that has left without reading (`ECONNRESET`).
//!
//! Verified: each hears what it has not read, from whom it came, and is connected to whom it was.
//! CRIU: makes pairs of some, and loses what others have not read.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketAddrUnix, bind, connect, send, sendto};

use super::talk::{DATAGRAM, bound, hear, hidden, names, option, pair, path, receive, silent};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

/// More than others can send at once.
const MANY: u8 = 30;

fn leave(socket: &OwnedFd) {
    rustix::net::connect_unspec(socket).expect("connect to nobody");
}

#[track_caller]
fn put(socket: &OwnedFd, bytes: &[u8]) {
    check_eq!(send(socket, bytes, SendFlags::empty()), Ok(bytes.len()), "send");
}

/// What is heard is this, from there.
#[track_caller]
fn hear_from(socket: &OwnedFd, bytes: &[u8], from: &SocketAddrUnix) {
    let got = receive(socket, 100, RecvFlags::empty()).unwrap_or_default();
    check_eq!(got.bytes, bytes, "what was sent");
    check_eq!(got.address.as_ref(), Some(from), "by whom");
}

fn run(cx: &mut Context) {
    let at = |name: &str| hidden(cx, name);

    // Of each pair either end may be the older one.
    let left = [pair(DATAGRAM), {
        let (one, other) = pair(DATAGRAM);
        (other, one)
    }];
    for (end, other) in &left {
        leave(end);
        put(other, b"one way");
    }
    let elsewhere = bound(DATAGRAM, &at("elsewhere"));
    let moved = [pair(DATAGRAM), {
        let (one, other) = pair(DATAGRAM);
        (other, one)
    }];
    for (end, other) in &moved {
        put(other, b"before");
        connect(other, &at("elsewhere")).expect("connect");
        put(other, b"after");
        check_eq!(send(end, b"no", SendFlags::empty()), Err(Errno::PERM), "to who has left");
    }
    let (named_end, other) = pair(DATAGRAM);
    bind(&other, &at("end")).expect("bind");
    put(&other, b"from an end");
    connect(&other, &at("elsewhere")).expect("connect");
    let orphans = [at("closed"), path(&cx.path("closed"))].map(|name| {
        let (end, other) = pair(DATAGRAM);
        bind(&other, &name).expect("bind");
        put(&other, b"last words");
        (end, name)
    });

    let (one, two) = (bound(DATAGRAM, &at("one")), bound(DATAGRAM, &at("two")));
    let stranger = bound(DATAGRAM, &at("stranger"));
    for number in 0..5 {
        let sent = sendto(&stranger, &[number], SendFlags::empty(), &at("one"));
        check_eq!(sent, Ok(1), "sendto");
    }
    connect(&two, &at("one")).expect("connect");
    connect(&one, &at("two")).expect("connect");
    (0..MANY).for_each(|number| put(&two, &[number]));
    let (heir, gone) = (bound(DATAGRAM, &at("heir")), bound(DATAGRAM, &at("gone")));
    connect(&gone, &at("heir")).expect("connect");
    connect(&heir, &at("gone")).expect("connect");
    (0..MANY).for_each(|number| put(&gone, &[number]));
    drop(gone);

    // The last is the oldest, and they connect from the first on.
    let mut chain: Vec<_> =
        (0..5).rev().map(|number| bound(DATAGRAM, &at(&format!("chain{number}")))).collect();
    chain.reverse();
    for (number, socket) in chain.iter().enumerate().take(4) {
        put_to(socket, &at(&format!("chain{}", number + 1)));
        connect(socket, &at(&format!("chain{}", number + 1))).expect("connect");
    }
    let to_itself = bound(DATAGRAM, &at("itself"));
    connect(&to_itself, &at("itself")).expect("connect");
    (0..MANY).for_each(|number| put(&to_itself, &[number]));

    let upset = [at("upset"), at("upset too")].map(|name| bound(DATAGRAM, &name));
    let rude = bound(DATAGRAM, &at("rude"));
    for (name, upset) in ["upset", "upset too"].into_iter().zip(&upset) {
        connect(upset, &at("rude")).expect("connect");
        connect(&rude, &at(name)).expect("connect");
        put(upset, b"unread");
        leave(&rude);
    }
    connect(&upset[1], &at("elsewhere")).expect("connect");

    cx.ready_and_wait();

    for (end, other) in &left {
        hear(end, 100, b"one way", "what the end has heard that has left");
        put(other, b"more");
        hear(end, 100, b"more", "and hears still");
        check_eq!(send(end, b"no", SendFlags::empty()), Err(Errno::NOTCONN), "it has left");
    }
    for (end, other) in &moved {
        hear(end, 100, b"before", "what was sent before");
        silent(end, "after that");
        check_eq!(send(end, b"no", SendFlags::empty()), Err(Errno::PERM), "to who has left");
        check_eq!(names(other)[1], Some(at("elsewhere")), "where that is connected to");
        hear(&elsewhere, 100, b"after", "what was sent after");
    }
    hear_from(&named_end, b"from an end", &at("end"));
    for (end, name) in &orphans {
        hear_from(end, b"last words", name);
        check_eq!(names(end)[1].as_ref(), Some(name), "who has closed");
        silent(end, "after that");
    }
    for number in 0..5 {
        hear_from(&one, &[number], &at("stranger"));
    }
    (0..MANY).for_each(|number| hear_from(&one, &[number], &at("two")));
    (0..MANY).for_each(|number| hear_from(&heir, &[number], &at("gone")));
    for (number, socket) in chain.iter().enumerate() {
        let next = (number < 4).then(|| at(&format!("chain{}", number + 1)));
        check_eq!(names(socket)[1], next, "whom {number} is connected to");
        if number > 0 {
            hear_from(socket, b"along", &at(&format!("chain{}", number - 1)));
        }
    }
    (0..MANY).for_each(|number| hear_from(&to_itself, &[number], &at("itself")));
    let peers = [at("rude"), at("elsewhere")];
    for (upset, peer) in upset.iter().zip(peers) {
        check_eq!(option(upset, libc::SO_ERROR), libc::ECONNRESET, "the error");
        check_eq!(names(upset)[1].as_ref(), Some(&peer), "whom it is connected to");
        put(upset, b"again");
    }
    hear_from(&rude, b"again", &at("upset"));
    hear_from(&elsewhere, b"again", &at("upset too"));
}

#[track_caller]
fn put_to(socket: &OwnedFd, to: &SocketAddrUnix) {
    check_eq!(sendto(socket, b"along", SendFlags::empty(), to), Ok(5), "sendto");
}
