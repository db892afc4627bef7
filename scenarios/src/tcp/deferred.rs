//! Connections on which nothing was sent yet, by listeners that wait for that (`TCP_DEFER_ACCEPT`):
//! of IPv4, IPv6, and IPv4 by sockets of IPv6, from a process outside of the tree and from inside.
//!
//! Verified: nobody can accept them; once something is sent on one, it is accepted with that, and
//! bytes go both ways; the process outside sees nothing but that.
//! CRIU: loses them without a word.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::process::{Pid, test_kill_process};

use super::pair::{OPTIONS, Way, place, set};
use super::unaccepted_outside::missing;
use crate::context::{until, until_forever};
use crate::epoll::watch::{EDGE, Epoll, IN, NOTHING};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(OPTIONS).missing(missing).dump_faults();

/// For so many seconds nobody is accepted who says nothing.
const DEFERRED: i32 = 500;

fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
    stream
}

/// The life of the process outside: connects, and sends something when it is told to; tells what
/// was answered.
fn outside(cx: &Context, root: Pid, at: &[SocketAddr]) {
    until("listeners", || cx.path("listening").exists());
    let mut clients: Vec<_> = at.iter().map(|&at| connect(at)).collect();
    cx.publish("connected", "");
    // The root is not there for a while.
    let is_over = || cx.gone() && test_kill_process(root).is_err();
    until_forever(|| cx.path("send").exists() || is_over());
    let answered = clients.iter_mut().map(|client| talk(client).map_err(|error| error.kind()));
    let answered: Vec<_> = answered.map(|answer| format!("{answer:?}")).collect();
    cx.publish("answered", &answered.join(" "));
}

/// Sends something, and reads the answer.
fn talk(client: &mut TcpStream) -> std::io::Result<[u8; 5]> {
    let mut answer = [0; 5];
    client.write_all(b"hello")?;
    client.read_exact(&mut answer)?;
    Ok(answer)
}

fn run(cx: &mut Context) {
    let places = Way::ALL.map(|way| place(cx, way, way as u16));
    let root = Pid::from_raw(sys::own_pid()).expect("a pid");
    cx.stranger(|cx| {
        cx.publish("stranger", &sys::gettid().to_string());
        outside(cx, root, &places);
    });
    let listeners = places.map(|at| TcpListener::bind(at).expect("bind"));
    let accepting = Epoll::new();
    for (listener, data) in listeners.iter().zip(0..) {
        set(listener, (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT), DEFERRED);
        listener.set_nonblocking(true).expect("FIONBIO");
        accepting.add(listener, IN | EDGE, data);
    }
    let mut inside = places.map(connect);
    cx.publish("listening", "");
    until("the connections", || cx.path("connected").exists());
    check_eq!(accepting.take(), NOTHING, "edges before");

    cx.ready_and_wait();

    check_eq!(accepting.take(), NOTHING, "edges after");
    for (listener, client) in listeners.iter().zip(&mut inside) {
        check!(listener.accept().is_err(), "nobody has sent anything");
        client.write_all(b"hello").expect("write");
        until("what was sent", || !accepting.take().is_empty());
        let (server, from) = listener.accept().expect("accept");
        check_eq!(Some(from), client.local_addr().ok(), "who has sent something");
        serve(server);
        let mut answer = [0; 5];
        client.read_exact(&mut answer).expect("read");
        check_eq!(&answer, b"there", "what was answered");
        check!(listener.accept().is_err(), "nobody else has sent anything");
    }
    cx.publish("send", "");
    for listener in &listeners {
        listener.set_nonblocking(false).expect("FIONBIO");
        serve(listener.accept().expect("accept").0);
    }
    let answered = cx.path("answered");
    until("what was answered", || answered.exists());
    let answered = std::fs::read_to_string(answered).expect("what was answered");
    let expected = format!("{:?}", Ok::<_, ()>(*b"there"));
    check_eq!(answered, vec![expected; 3].join(" "), "what was answered outside");
}

fn serve(mut server: TcpStream) {
    let mut bytes = [0; 5];
    server.set_nonblocking(false).expect("FIONBIO");
    server.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
    server.read_exact(&mut bytes).expect("read");
    check_eq!(&bytes, b"hello", "what was sent");
    server.write_all(b"there").expect("write");
}
