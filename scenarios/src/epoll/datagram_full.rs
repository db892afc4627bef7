//! Unix datagram sockets without a name, connected to one that takes no more: by its queue, and by their own send
//! buffers; edges that were reported. Some wait for what they can read as well, and have it.
//!
//! Verified: nothing is reported again, and when room is made each is told once, in the order in which they began
//! to wait, the last first; also where descriptors are in what waits.
//! CRIU: reports edges again, and sends all again by itself.

use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags, connect};

use super::watch::{EDGE, Epoll, IN, NOTHING, OUT};
use crate::unix::buffers::charged;
use crate::unix::talk::{
    DATAGRAM, bound, connected, hear, hidden, receive, send, set_option, socket,
};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

/// In which order they begin to wait.
const ORDER: [usize; 6] = [3, 0, 5, 1, 4, 2];
/// One that has something to read.
const READS: usize = 5;

/// A socket that is full, and some that wait for it.
struct Full {
    receiver: OwnedFd,
    clients: Vec<OwnedFd>,
    epoll: Epoll,
    files: Files,
    _null: Option<std::fs::File>,
}

/// Descriptors that come with what waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Files {
    None,
    Open,
    /// Whoever looks for those wakes who waits, who is told then of what else there is.
    InFlight,
}

impl Files {
    /// What the one waits for that has something to read.
    fn asked(self) -> u32 {
        if self == Self::InFlight { OUT } else { IN | OUT }
    }
}

impl Full {
    fn new(cx: &Context, (name, files): (&str, Files)) -> Self {
        let at = hidden(cx, name);
        let receiver = bound(DATAGRAM, &at);
        let clients: Vec<_> = ORDER.iter().map(|_| socket(DATAGRAM)).collect();
        clients.iter().for_each(|client| connect(client, &at).expect("connect"));
        let null =
            (files != Files::None).then(|| std::fs::File::open("/dev/null").expect("it is there"));
        if let Some(null) = &null {
            send(&clients[1], b"with one", &[null.as_fd(), receiver.as_fd()]);
        }
        let reads = hidden(cx, &format!("{name} reads"));
        rustix::net::bind(&clients[READS], &reads).expect("bind");
        let sent = rustix::net::sendto(&receiver, b"to read", SendFlags::empty(), &reads);
        check_eq!(sent, Ok(7), "sendto");
        clients.iter().for_each(|client| send(client, b"a message", &[]));
        // Whoever finds it full waits from then on: another one.
        let other = connected(DATAGRAM, &at);
        while rustix::net::send(&other, b"a message", SendFlags::empty()).is_ok() {}
        let epoll = Epoll::new();
        for at in ORDER {
            let events = if at == READS { files.asked() } else { OUT };
            epoll.add(&clients[at], events | EDGE, at as u64);
        }
        check_eq!(epoll.take().len(), usize::from(files != Files::InFlight), "what can be read");
        let null = null.filter(|_| files == Files::Open);
        Self { receiver, clients, epoll, files, _null: null }
    }

    fn check(&self) {
        check_eq!(self.epoll.take(), NOTHING, "edges that were reported");
        let charges: Vec<_> = self.clients.iter().map(charged).collect();
        check!(charges.iter().all(|&charge| charge > 0), "all are charged: {charges:?}");
        receive(&self.receiver, 100, RecvFlags::empty()).expect("there is something");
        let told = self.epoll.take();
        let order: Vec<_> = told.iter().map(|&(client, _)| client as usize).collect();
        check_eq!(order.into_iter().rev().collect::<Vec<_>>(), ORDER, "who is told, last first");
        for (client, events) in told {
            let expected = if client == READS as u64 { self.files.asked() } else { OUT };
            check_eq!(events, expected, "what {client} is told");
        }
        hear(&self.clients[READS], 100, b"to read", "what is there");
    }
}

fn run(cx: &mut Context) {
    let full = [("plain", Files::None), ("with one", Files::Open), ("alone", Files::InFlight)];
    let full = full.map(|kind| Full::new(cx, kind));
    // Its own buffer is full.
    let at = hidden(cx, "small");
    let (receiver, client) = (bound(DATAGRAM, &at), socket(DATAGRAM));
    connect(&client, &at).expect("connect");
    set_option(&client, libc::SO_SNDBUF, 1);
    let bytes = [b'a'; 1000];
    let sent =
        (0..9).take_while(|_| rustix::net::send(&client, &bytes, SendFlags::empty()).is_ok());
    let sent = sent.count();
    let own = Epoll::new();
    own.add(&client, OUT | EDGE, 1);
    check_eq!(own.take(), NOTHING, "it is full");
    let before = charged(&client);

    cx.ready_and_wait();

    full.iter().for_each(Full::check);
    check_eq!(own.take(), NOTHING, "it is full still");
    check_eq!(charged(&client), before, "what it is charged with");
    let mut told = Vec::new();
    for _ in 0..sent {
        hear(&receiver, 2000, &bytes, "what was sent");
        told.extend(own.take());
    }
    check_eq!(told, [(1, OUT)], "the edge, once");
}
