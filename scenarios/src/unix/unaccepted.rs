//! Connections that nobody has accepted, streams and sequences of packets, at paths and abstract names: by
//! processes that live and have ended, with what they had sent and descriptors, shut down or closed again.
//!
//! Verified: they are accepted in their order, and tell who had connected, from where, and all that was sent;
//! those that live hear answers; nothing else waits.
//! CRIU: fails to dump it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketType, shutdown};

use super::buffers::charged;
use super::talk::{
    SEQPACKET, STREAM, accept, connected, ended, hear, hidden, listening, names, option, path,
    peer_cred, receive, send, set_option, silent, socket,
};

use crate::context::until;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

/// More than fits into one buffer.
const LONG: usize = 60_000;

/// Who listens, those who wait there, and what those are called that are.
struct Listener {
    kind: SocketType,
    address: SocketAddrUnix,
    socket: OwnedFd,
    clients: Vec<OwnedFd>,
    /// The pids of who has connected.
    by: Vec<i32>,
    names: [SocketAddrUnix; 2],
}

/// A socket with a name, connected.
fn named(kind: SocketType, name: &SocketAddrUnix, address: &SocketAddrUnix) -> OwnedFd {
    let client = socket(kind);
    rustix::net::bind(&client, name).expect("bind");
    rustix::net::connect(&client, address).expect("connect");
    client
}

fn set_up(
    cx: &Context,
    (kind, address): (SocketType, SocketAddrUnix),
    names: [SocketAddrUnix; 2],
    ends: &[OwnedFd; 2],
) -> Listener {
    let listener = listening(kind, &address, 12);
    set_option(&listener, libc::SO_PASSCRED, 1);
    let (mut clients, mut by) = (Vec::new(), Vec::new());
    let own = |clients: &mut Vec<OwnedFd>, by: &mut Vec<i32>| {
        clients.push(connected(kind, &address));
        by.push(sys::gettid());
        clients.len() - 1
    };
    let child = |by: &mut Vec<i32>, body: &dyn Fn()| {
        let pid = cx.fork(|_| body());
        cx.reap(pid);
        by.push(pid);
    };
    // 0: it lives, and has sent.
    let at = own(&mut clients, &mut by);
    send(&clients[at], b"first", &[]);
    send(&clients[at], b"second", &[]);
    // 1: it has sent, and has closed.
    child(&mut by, &|| {
        let client = connected(kind, &address);
        for piece in [&b"one"[..], b"two", b"three"] {
            send(&client, piece, &[]);
        }
    });
    // 2: it has closed and sent nothing.
    child(&mut by, &|| drop(connected(kind, &address)));
    // 3: it lives, has sent, and sends no more.
    let at = own(&mut clients, &mut by);
    send(&clients[at], b"last", &[]);
    shutdown(&clients[at], Shutdown::Write).expect("shutdown");
    // 4: nothing.
    own(&mut clients, &mut by);
    // 5: much, and descriptors.
    let at = own(&mut clients, &mut by);
    let long: Vec<u8> = (0..LONG).map(|at| at as u8).collect();
    send(&clients[at], &long, &[]);
    send(&clients[at], b"ends", &[ends[0].as_fd(), ends[1].as_fd()]);
    // 6 and 7: they had names, and have closed.
    for name in &names {
        child(&mut by, &|| {
            let client = named(kind, name, &address);
            send(&client, b"named", &[ends[1].as_fd()]);
            send(&client, b"again", &[]);
        });
    }
    // 8: out of band, or nothing at all.
    let at = own(&mut clients, &mut by);
    if kind == STREAM {
        send(&clients[at], b"before", &[]);
        let sent = rustix::net::send(&clients[at], b"!", SendFlags::OOB);
        check_eq!(sent, Ok(1), "out of band");
        send(&clients[at], b"after", &[]);
    } else {
        send(&clients[at], b"", &[]);
        send(&clients[at], b"not empty", &[]);
    }
    Listener { kind, address, socket: listener, clients, by, names }
}

impl Listener {
    /// What is sent piece by piece is heard so, or at once from a stream.
    fn hear(&self, server: &OwnedFd, pieces: &[&[u8]], by: i32) {
        let whole = pieces.concat();
        let pieces = if self.kind == STREAM { &[&whole[..]] } else { pieces };
        for piece in pieces {
            let got = hear(server, 200_000, piece, "what was sent");
            check_eq!(got.from.map(|(pid, ..)| pid), Some(by), "who has sent it");
        }
    }

    /// The next bytes come with as many descriptors.
    fn rights(&self, server: &OwnedFd, len: usize, expected: &[u8], count: usize) -> Vec<OwnedFd> {
        let got = hear(server, len, expected, "what came with descriptors");
        check_eq!(got.rights.len(), count, "descriptors");
        got.rights
    }

    fn verify(&self, reader: &OwnedFd) {
        let client = |at: usize| &self.clients[at];
        for (place, &by) in self.by.iter().enumerate() {
            let server = match accept(&self.socket) {
                Ok(server) => server,
                Err(error) => {
                    check!(false, "accept {place}: {error}");
                    return;
                }
            };
            check_eq!(option(&server, libc::SO_PASSCRED), 1, "what is inherited");
            check_eq!(peer_cred(&server)[0], by, "who has connected {place}");
            check_eq!(names(&server)[0].as_ref(), Some(&self.address), "its own name");
            let named = names(&server)[1].clone().filter(|name| {
                let none = Some(&b""[..]);
                name.path_bytes() != none && name.abstract_name() != none
            });
            let name = place.checked_sub(6).and_then(|place| self.names.get(place));
            check_eq!(named.as_ref(), name, "the name of {place}");
            let lives = match place {
                0 => {
                    self.hear(&server, &[b"first", b"second"], by);
                    Some(client(0))
                }
                1 => {
                    self.hear(&server, &[b"one", b"two", b"three"], by);
                    None
                }
                2 => None,
                3 => {
                    self.hear(&server, &[b"last"], by);
                    ended(&server, "of who sends no more");
                    send(&server, b"to you", &[]);
                    hear(client(1), 100, b"to you", "what it hears");
                    continue;
                }
                4 => Some(client(2)),
                5 => {
                    let long: Vec<u8> = (0..LONG).map(|at| at as u8).collect();
                    hear(&server, LONG, &long, "much");
                    let rights = self.rights(&server, 100, b"ends", 2);
                    if let [_, writer] = &rights[..] {
                        check_eq!(rustix::io::write(writer, b"through"), Ok(7), "write");
                        let mut bytes = [0; 100];
                        check_eq!(rustix::io::read(reader, &mut bytes), Ok(7), "read");
                    }
                    Some(client(3))
                }
                6 | 7 => {
                    let rights = self.rights(&server, 5, b"named", 1);
                    check_eq!(rustix::io::write(&rights[0], b"pipe"), Ok(4), "write");
                    check_eq!(rustix::io::read(reader, &mut [0; 100]), Ok(4), "read");
                    self.hear(&server, &[b"again"], by);
                    None
                }
                _ if self.kind == STREAM => {
                    let got = receive(&server, 1, RecvFlags::OOB).map(|got| got.bytes);
                    check_eq!(got.as_deref(), Ok(&b"!"[..]), "out of band");
                    hear(&server, 100, b"before", "before it");
                    hear(&server, 100, b"after", "after it");
                    Some(client(4))
                }
                _ => {
                    hear(&server, 100, b"", "an empty one");
                    hear(&server, 100, b"not empty", "another");
                    Some(client(4))
                }
            };
            match lives {
                None => ended(&server, "of who has closed"),
                Some(client) => {
                    silent(&server, "nothing else");
                    check_eq!(charged(client), 0, "memory of what was read");
                    send(&server, b"answer", &[]);
                    hear(client, 100, b"answer", "the answer");
                    send(client, b"more", &[]);
                    hear(&server, 100, b"more", "what was sent later");
                }
            }
        }
        check!(accept(&self.socket).is_err(), "nobody else waits");
    }
}

fn run(cx: &mut Context) {
    let (reader, writer) = rustix::pipe::pipe().expect("pipe");
    let ends = [reader, writer];
    let kinds = [(STREAM, "stream"), (SEQPACKET, "packets")];
    let all: Vec<_> = kinds
        .into_iter()
        .flat_map(|(kind, name)| {
            let name = |more: &str| format!("{name} {more}");
            let address = [hidden(cx, &name("hidden")), path(&cx.path(&name("path")))];
            address.map(|address| (kind, address, name("")))
        })
        .enumerate()
        .map(|(number, (kind, address, name))| {
            let names = [
                hidden(cx, &format!("{name}{number}")),
                path(&cx.path(&format!("{name}{number}"))),
            ];
            set_up(cx, (kind, address), names, &ends)
        })
        .collect();
    let address = hidden(cx, "child");
    let listener = listening(STREAM, &address, 5);
    let child = cx.fork(|cx| {
        let client = connected(STREAM, &address);
        send(&client, b"from a child", &[]);
        cx.arrive(sys::gettid());
        cx.wait_go();
        until("an answer", || receive(&client, 100, RecvFlags::empty()).is_ok());
    });
    cx.await_arrival(child);
    let memory = || all.iter().flat_map(|all| all.clients.iter().map(charged)).collect::<Vec<_>>();
    let before = memory();

    cx.ready_and_wait();

    check_eq!(memory(), before, "memory of what was sent");
    all.iter().for_each(|listener| listener.verify(&ends[0]));
    let server = accept(&listener).expect("accept");
    check_eq!(peer_cred(&server)[0], child, "who has connected");
    hear(&server, 100, b"from a child", "what it had sent");
    send(&server, b"answer", &[]);
    cx.reap(child);
}
