//! Datagrams that count against who has sent them until they are read: sockets without a name, connected or
//! not, to others since, shut down since, bound since; one end of a pair; one of a child; one that shares its path
//! with another by now; with descriptors, with credentials that the receiver asks for before or after.
//!
//! Verified: by `SIOCOUTQ`, after each is read, beside a twin that nobody disturbed; senders that have closed are
//! nobody's charge.
//! CRIU: sends all of them again by itself.

use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    RecvFlags, SendFlags, Shutdown, SocketAddrUnix, bind, connect, sendto, shutdown,
};

use super::buffers::charged;
use super::talk::{DATAGRAM, bound, hidden, pair, path, receive, send, set_option, socket};

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

/// Sockets that are sent to, and some that have sent.
struct World {
    /// The second asks for credentials.
    receivers: [OwnedFd; 2],
    end: OwnedFd,
    senders: Vec<OwnedFd>,
}

/// Has every kind of sender send something, `pieces` of growing size.
fn world(cx: &Context, label: &str) -> World {
    let at = ["one", "two"].map(|name| hidden(cx, &format!("{label}-{name}")));
    let receivers = at.each_ref().map(|at| bound(DATAGRAM, at));
    set_option(&receivers[1], libc::SO_PASSCRED, 1);
    let mut size = 0;
    let mut put = |from: &OwnedFd, to: &SocketAddrUnix| {
        size += 700;
        let bytes = vec![b'a'; size];
        check_eq!(sendto(from, &bytes, SendFlags::empty(), to), Ok(size), "sendto");
    };
    let plain = socket(DATAGRAM);
    at.iter().for_each(|to| put(&plain, to));
    let connected = socket(DATAGRAM);
    connect(&connected, &at[0]).expect("connect");
    put(&connected, &at[0]);
    let moved = socket(DATAGRAM);
    connect(&moved, &at[0]).expect("connect");
    put(&moved, &at[0]);
    connect(&moved, &at[1]).expect("connect");
    put(&moved, &at[1]);
    let shut = socket(DATAGRAM);
    put(&shut, &at[1]);
    shutdown(&shut, Shutdown::Write).expect("shutdown");
    let named = socket(DATAGRAM);
    put(&named, &at[1]);
    bind(&named, &hidden(cx, &format!("{label}-named"))).expect("bind");
    // Nobody can tell the two by their names.
    let place = path(&cx.path(&format!("{label}-place")));
    let old = bound(DATAGRAM, &place);
    put(&old, &at[0]);
    std::fs::remove_file(cx.path(&format!("{label}-place"))).expect("it is there");
    let new = bound(DATAGRAM, &place);
    put(&new, &at[1]);
    let (end, other) = pair(DATAGRAM);
    send(&other, b"to the other end", &[]);
    send(&other, b"", &[]);
    put(&other, &at[0]);
    let with_files = socket(DATAGRAM);
    connect(&with_files, &at[0]).expect("connect");
    let null = std::fs::File::open("/dev/null").expect("it is there");
    send(&with_files, b"a descriptor", &[null.as_fd(), other.as_fd()]);
    let closed = socket(DATAGRAM);
    put(&closed, &at[0]);
    drop(closed);
    let asks = socket(DATAGRAM);
    set_option(&asks, libc::SO_PASSCRED, 1);
    put(&asks, &at[0]);
    let senders = vec![plain, connected, moved, shut, named, old, new, other, with_files, asks];
    World { receivers, end, senders }
}

impl World {
    fn charges(&self) -> Vec<i32> {
        self.senders.iter().map(charged).collect()
    }

    /// Reads one after the other, and tells what was read and what is charged then.
    fn read(&self) -> Vec<(usize, usize, Option<i32>, Vec<i32>)> {
        let mut steps = Vec::new();
        set_option(&self.receivers[0], libc::SO_PASSCRED, 1);
        for receiver in self.receivers.iter().chain([&self.end]) {
            while let Ok(got) = receive(receiver, 1 << 16, RecvFlags::empty()) {
                let from = got.from.map(|(pid, ..)| pid);
                steps.push((got.bytes.len(), got.rights.len(), from, self.charges()));
            }
        }
        steps
    }
}

fn run(cx: &mut Context) {
    let before = world(cx, "before");
    let charges = before.charges();
    check!(charges.iter().all(|&charge| charge > 0), "all are charged: {charges:?}");
    let to = hidden(cx, "of the child");
    let receiver = bound(DATAGRAM, &to);
    let child = cx.fork(|cx| {
        let sender = socket(DATAGRAM);
        check_eq!(sendto(&sender, &[b'a'; 3000], SendFlags::empty(), &to), Ok(3000), "sendto");
        let before = charged(&sender);
        cx.arrive(sys::own_pid());
        cx.wait_go();
        check_eq!(charged(&sender), before, "what the child is charged with");
        let got = receive(&receiver, 1 << 16, RecvFlags::empty());
        check_eq!(got.map(|got| got.bytes.len()), Ok(3000), "what the child has sent");
        check_eq!(charged(&sender), 0, "what is left of that");
    });
    cx.await_arrival(child);

    cx.ready_and_wait();

    cx.reap(child);
    check_eq!(before.charges(), charges, "what each is charged with");
    let twin = world(cx, "after");
    check_eq!(before.read(), twin.read(), "what is read, and left, after each");
}
