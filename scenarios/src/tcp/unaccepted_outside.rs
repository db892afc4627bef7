//! Connections that wait to be accepted, and whose other ends are in a process outside of the tree:
//! with nothing sent, with little, with as much as there is room for, with an end, with a reset, and
//! with both; of IPv4, IPv6, and IPv4 by sockets of IPv6.
//!
//! Verified: they are accepted in their order, with their addresses, and with what was sent; edges
//! that were reported are not again; answers come through, and what is sent later; the process
//! outside sees nothing but that.
//! CRIU: refuses them, or loses them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Pid, test_kill_process};

use super::pair::{OPTIONS, Way, place};
use crate::context::{until, until_forever};
use crate::epoll::watch::{EDGE, Epoll, IN, NOTHING};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(OPTIONS).missing(missing).dump_faults();

/// More than the kernel holds for one end and the other.
const MUCH: usize = 16 << 20;
/// What is sent when all are there again.
const LATER: u8 = b'.';

pub(super) fn missing() -> Option<String> {
    /// Many scenarios ask, and it is a file that takes long to read.
    static HAS: LazyLock<bool> = LazyLock::new(|| {
        std::fs::read_to_string("/proc/kallsyms")
            .is_ok_and(|symbols| symbols.contains(" bpf_sk_assign_tcp_reqsk\n"))
    });
    (!*HAS).then(|| "the kernel makes no such connections again (Linux 6.9)".into())
}

/// What a peer does once it is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Silent,
    Sends,
    Fills,
    Finishes,
    SendsAndFinishes,
    Resets,
    FinishesAndResets,
}

const PEERS: [Peer; 7] = [
    Peer::Silent,
    Peer::Sends,
    Peer::Fills,
    Peer::Finishes,
    Peer::SendsAndFinishes,
    Peer::Resets,
    Peer::FinishesAndResets,
];

impl Peer {
    fn is_gone(self) -> bool {
        matches!(self, Self::Resets | Self::FinishesAndResets)
    }

    fn goes_on(self) -> bool {
        matches!(self, Self::Silent | Self::Sends | Self::Fills)
    }

    /// Connects, and gives how many bytes were sent.
    fn connect(self, at: SocketAddr) -> (Option<TcpStream>, usize) {
        let mut stream = TcpStream::connect(at).expect("connect");
        let mut sent = match self {
            Self::Sends | Self::SendsAndFinishes | Self::FinishesAndResets => {
                stream.write_all(&bytes(0, 5)).expect("write");
                5
            }
            _ => 0,
        };
        if self == Self::Fills {
            // Until nothing more fits anywhere.
            stream.set_write_timeout(Some(Duration::from_millis(300))).expect("a time-out");
            while sent < MUCH {
                match stream.write(&bytes(sent, MUCH.min(64 << 10))) {
                    Ok(len) => sent += len,
                    Err(_) => break,
                }
            }
            stream.set_write_timeout(None).expect("no time-out");
        }
        if matches!(self, Self::Finishes | Self::SendsAndFinishes | Self::FinishesAndResets) {
            stream.shutdown(Shutdown::Write).expect("shutdown");
        }
        if self.is_gone() {
            set_socket_linger(&stream, Some(Duration::ZERO)).expect("SO_LINGER");
            return (None, sent);
        }
        (Some(stream), sent)
    }
}

/// Some of the bytes that are sent.
fn bytes(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|number| (number % 251) as u8).collect()
}

/// The life of the process outside: connects, tells from where it did and what it has sent, and
/// later what was answered.
fn outside(cx: &Context, root: Pid, at: &[SocketAddr]) {
    until("listeners", || cx.path("listening").exists());
    let mut peers: Vec<_> =
        at.iter().flat_map(|&at| PEERS.map(|peer| (peer, peer.connect(at)))).collect();
    let told = peers.iter().map(|(_, (stream, sent))| {
        let from = stream.as_ref().map(|stream| stream.local_addr().expect("an address").port());
        format!("{} {sent}\n", from.unwrap_or(0))
    });
    cx.publish("connected", &told.collect::<String>());
    until_forever(|| cx.gone() || test_kill_process(root).is_err());
    let answered = peers.iter_mut().map(|(peer, (stream, _))| -> std::io::Result<()> {
        let Some(stream) = stream else { return Ok(()) };
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        if peer.goes_on() {
            stream.write_all(&[LATER])?;
        }
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        if &answer == b"there" { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
    });
    let answered: Vec<_> =
        answered.map(|answer| format!("{:?}", answer.map_err(|error| error.kind()))).collect();
    cx.publish("answered", &answered.join(" "));
}

fn run(cx: &mut Context) {
    let places = Way::ALL.map(|way| place(cx, way, way as u16));
    let root = Pid::from_raw(sys::own_pid()).expect("a pid");
    cx.stranger(|cx| {
        cx.publish("stranger", &sys::gettid().to_string());
        outside(cx, root, &places);
    });
    let listeners = places.map(|at| TcpListener::bind(at).expect("bind"));
    cx.publish("listening", "");
    let told = cx.path("connected");
    until("the connections", || told.exists());
    let told = std::fs::read_to_string(told).expect("what was told");
    let mut told = told.lines().map(|line| {
        let (port, sent) = line.split_once(' ').expect("two numbers");
        (port.parse::<u16>().expect("a port"), sent.parse::<usize>().expect("a length"))
    });
    let accepting = Epoll::new();
    for (listener, data) in listeners.iter().zip(0..) {
        listener.set_nonblocking(true).expect("FIONBIO");
        accepting.add(listener, IN | EDGE, data);
    }
    check_eq!(accepting.take().len(), 3, "edges before");

    cx.ready_and_wait();

    check_eq!(accepting.take(), NOTHING, "the same edges again");
    for listener in &listeners {
        for peer in PEERS {
            let (port, sent) = told.next().expect("as many as there are peers");
            let (mut server, from) = listener.accept().expect("accept");
            check!(port == 0 || from.port() == port, "{from} comes next, not {port}");
            server.set_nonblocking(false).expect("FIONBIO");
            server.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
            let mut expected = bytes(0, sent);
            expected.extend(peer.goes_on().then_some(LATER));
            let mut came = vec![0; expected.len()];
            server.read_exact(&mut came).expect("read");
            check!(came == expected, "what {peer:?} has sent");
            let after = match peer.goes_on() {
                true => Ok(1),
                false => server.read(&mut [0]).map_err(|error| error.kind()),
            };
            let expected = match peer {
                Peer::Resets => Err(std::io::ErrorKind::ConnectionReset),
                _ => Ok(usize::from(peer.goes_on())),
            };
            check_eq!(after, expected, "what comes then");
            let answer = server.write_all(b"there").map_err(|error| error.kind());
            let broken = Err(std::io::ErrorKind::BrokenPipe);
            check_eq!(answer, if peer.is_gone() { broken } else { Ok(()) }, "the answer");
        }
        check!(listener.accept().is_err(), "nobody else waits");
    }
    let answered = cx.path("answered");
    until("what was answered", || answered.exists());
    let answered = std::fs::read_to_string(answered).expect("what was answered");
    check_eq!(answered, vec!["Ok(())"; 3 * PEERS.len()].join(" "), "what peers got");
}
