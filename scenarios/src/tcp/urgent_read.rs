//! Connections that a byte has come out of band of, with others around it or not: it waits, or was
//! read; it comes in band (`SO_OOBINLINE`); the peer has said that nothing more comes.
//!
//! Verified: what they report to who polls, the mark, what is read, in and out of band, beside
//! connections that were never dumped; and that all goes on.
//! CRIU: has it come in band, and loses what is behind it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::pair::{OPTIONS, Way, connected, set};
use crate::context::until;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(OPTIONS).dump_faults();

const INLINE: (i32, i32) = (libc::SOL_SOCKET, libc::SO_OOBINLINE);

/// What comes before and behind it.
const AROUND: [(&[u8], &[u8]); 4] =
    [(b"before", b"behind"), (b"before", b""), (b"", b"behind"), (b"", b"")];

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Waits,
    Read,
    Inline,
    /// And nothing more comes.
    Last,
}

fn reported(socket: &TcpStream) -> PollFlags {
    let asked = PollFlags::IN | PollFlags::OUT | PollFlags::RDHUP | PollFlags::PRI;
    let mut polled = [PollFd::new(socket, asked)];
    poll(&mut polled, Some(&Timespec::default())).expect("poll");
    polled[0].revents()
}

/// Both ends.
fn make(
    cx: &Context,
    (way, number): (Way, u16),
    fate: Fate,
    (before, behind): (&[u8], &[u8]),
) -> [TcpStream; 2] {
    let (_, client, mut server) = connected(cx, way, number);
    if fate == Fate::Inline {
        set(&client, INLINE, 1);
    }
    server.write_all(before).expect("write");
    check_eq!(send(&server, b"!", SendFlags::OOB), Ok(1), "sending out of band");
    server.write_all(behind).expect("write");
    until("the byte", || reported(&client).contains(PollFlags::PRI));
    let mut byte = [0];
    match fate {
        Fate::Waits | Fate::Inline => {}
        Fate::Read => {
            check_eq!(recv(&client, &mut byte[..], RecvFlags::OOB).map(|it| it.0), Ok(1), "it");
        }
        Fate::Last => {
            server.shutdown(Shutdown::Write).expect("shutdown");
            until("the end", || reported(&client).contains(PollFlags::RDHUP));
        }
    }
    [client, server]
}

/// All that one says to a program that reads.
fn says(socket: &TcpStream) -> Vec<String> {
    socket.set_nonblocking(true).expect("FIONBIO");
    let mut said = Vec::new();
    let (mut byte, mut bytes) = ([0], [0; 32]);
    for flags in [RecvFlags::OOB | RecvFlags::PEEK, RecvFlags::OOB] {
        said.push(format!("{:?}", reported(socket)));
        let read = recv(socket, &mut byte[..], flags);
        said.push(format!("out of band: {read:?}, {byte:?}"));
    }
    for _ in 0..3 {
        let waiting = rustix::io::ioctl_fionread(socket);
        said.push(format!("{:?}, {waiting:?} waiting, {:?}", reported(socket), at_mark(socket)));
        let read = recv(socket, &mut bytes[..], RecvFlags::empty()).map(|it| it.0);
        said.push(format!("read: {read:?}, {:?}", &bytes[..read.unwrap_or(0)]));
    }
    said
}

fn at_mark(socket: &TcpStream) -> Result<i32, i32> {
    const SIOCATMARK: libc::c_ulong = 0x8905;
    let mut answer = 0;
    let fd = std::os::fd::AsRawFd::as_raw_fd(socket);
    // SAFETY: the kernel writes an int.
    match unsafe { libc::ioctl(fd, SIOCATMARK, &raw mut answer) } {
        0 => Ok(answer),
        _ => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
    }
}

fn run(cx: &mut Context) {
    let fates = [Fate::Waits, Fate::Read, Fate::Inline, Fate::Last];
    let all = fates.into_iter().flat_map(|it| AROUND.map(|around| (it, around)));
    // That one was read, and nothing else is there, is told by the mark alone.
    let is_told = |&(fate, (before, behind)): &(Fate, (&[u8], &[u8]))| {
        fate != Fate::Read || !(before.is_empty() && behind.is_empty())
    };
    let cases: Vec<_> = all.filter(is_told).collect();
    let all = |number| -> Vec<_> {
        let way = |at: usize| Way::ALL[at % 3];
        let all = cases.iter().enumerate();
        all.map(|(at, &(fate, around))| make(cx, (way(at), number), fate, around)).collect()
    };
    let pairs = all(0);
    let before: Vec<_> = pairs.iter().map(|[client, _]| reported(client)).collect();

    cx.ready_and_wait();

    for (((case, pair), twins), before) in cases.iter().zip(pairs).zip(all(1)).zip(before) {
        let ([client, mut server], [twin, _peer]) = (pair, twins);
        check_eq!(reported(&client), before, "what {case:?} reports");
        check_eq!(says(&client), says(&twin), "what {case:?} says");
        if case.0 != Fate::Last {
            server.write_all(b"more").expect("write");
            client.set_nonblocking(false).expect("FIONBIO");
            let mut more = [0; 4];
            (&client).read_exact(&mut more).expect("read");
            check_eq!(&more, b"more", "what comes next");
            check_eq!(send(&server, b"?", SendFlags::OOB), Ok(1), "sending out of band");
            until("the next byte", || reported(&client).contains(PollFlags::PRI));
        }
    }
}
