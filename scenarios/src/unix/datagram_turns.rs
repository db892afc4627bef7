//! Threads that wait to send to a unix datagram socket which takes no more, in the call, and began to in an order
//! that is not that of their tids: by sockets of their own, connected or not, and by one that several share.
//!
//! Verified: who began first sends first. Not by dumps that are killed, which may leave another order.
//! CRIU: they send in another order.

use std::io::pipe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::{Errno, read, write};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, connect, sendto, socket_with};

use super::talk::{DATAGRAM, bound, connected, hidden, receive, socket};

use crate::context::until;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// The order in which they begin, by index.
const ORDER: [usize; 7] = [3, 0, 5, 1, 6, 4, 2];

fn run(cx: &mut Context) {
    let at = hidden(cx, "receiver");
    let receiver = bound(DATAGRAM, &at);
    let patient = || {
        let kind = (AddressFamily::UNIX, DATAGRAM, SocketFlags::CLOEXEC);
        let socket = socket_with(kind.0, kind.1, kind.2, None).expect("socket");
        connect(&socket, &at).expect("connect");
        Arc::new(socket)
    };
    let shared = patient();
    let filler = socket(DATAGRAM);
    while sendto(&filler, b"before", SendFlags::empty(), &at).is_ok() {}
    // Others are told in another way that there is room.
    let client = connected(DATAGRAM, &at);
    check_eq!(
        rustix::net::send(&client, b"no", SendFlags::empty()),
        Err(Errno::AGAIN),
        "it is full"
    );
    let mut threads = Vec::new();
    let count = Arc::new(AtomicUsize::new(0));
    for number in 0..ORDER.len() {
        let socket = if number % 3 == 0 { Arc::clone(&shared) } else { patient() };
        if number % 3 == 1 {
            rustix::net::connect_unspec(&socket).expect("connect to nobody");
        }
        let (begins, begin) = pipe().expect("pipe");
        let (to, count) = (at.clone(), Arc::clone(&count));
        let (thread, tid) = cx.thread(move |cx| {
            cx.arrive(sys::gettid());
            check_eq!(read(&begins, &mut [0; 1]), Ok(1), "when to begin");
            let bytes = [number as u8];
            let sent = match number % 3 {
                1 => sendto(&*socket, &bytes, SendFlags::empty(), &to),
                2 => write(&*socket, &bytes),
                _ => rustix::net::send(&*socket, &bytes, SendFlags::empty()),
            };
            check_eq!(sent, Ok(1), "what was sent");
            count.fetch_add(1, Ordering::SeqCst);
            cx.wait_go();
        });
        threads.push((thread, tid, begin));
    }
    let call = |number: usize| if number % 3 == 2 { libc::SYS_write } else { libc::SYS_sendto };
    for number in ORDER {
        let (_, tid, begin) = &threads[number];
        check_eq!(write(begin, b"x"), Ok(1), "one begins");
        cx.await_blocked(*tid, call(number));
    }

    cx.ready_and_wait();

    // They may not be there yet.
    ORDER.iter().for_each(|&number| cx.await_blocked(threads[number].1, call(number)));
    let mut sent = Vec::new();
    for read in 1.. {
        let Ok(got) = receive(&receiver, 100, RecvFlags::empty()) else { break };
        if got.bytes != b"before" {
            sent.push(usize::from(got.bytes[0]));
        }
        // The next is let only when this one has sent.
        until("one to send", || count.load(Ordering::SeqCst) >= read.min(ORDER.len()));
    }
    check_eq!(sent, ORDER, "the order in which they sent");
    threads.into_iter().for_each(|(thread, ..)| thread.join().expect("no panic"));
    drop(client);
}
