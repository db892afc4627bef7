//! Connections that have sent a byte out of band which the peer cannot take yet: all of it was sent, or
//! there was no room for it.
//!
//! Verified: that the byte comes out of band, and all bytes before and behind it.
//! CRIU: has it come in band.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;

use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::pair::{OPTIONS, Way, connected, set};
use crate::context::until;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(OPTIONS).dump_faults();

/// Fills a connection, and says with how much.
fn fill(client: &TcpStream) -> usize {
    let mut all = 0;
    loop {
        match (&*client).write(&[b'a'; 4096]) {
            Ok(len) => all += len,
            Err(error) => {
                check_eq!(error.kind(), ErrorKind::WouldBlock, "filling it");
                return all;
            }
        }
    }
}

/// Sends a byte out of band in the middle of others, behind `full`.
fn send_urgent(client: &TcpStream) {
    set(client, (libc::SOL_SOCKET, libc::SO_SNDBUF), 8 << 20);
    check_eq!((&*client).write(b"before").ok(), Some(6), "sending");
    check_eq!(send(client.as_fd(), b"!", SendFlags::OOB), Ok(1), "sending out of band");
    check_eq!((&*client).write(b"behind").ok(), Some(6), "sending");
}

fn run(cx: &mut Context) {
    let all = Way::ALL.map(|way| {
        let (_, client, server) = connected(cx, way, way as u16);
        client.set_nonblocking(true).expect("FIONBIO");
        let full = fill(&client);
        send_urgent(&client);
        (client, server, full)
    });

    cx.ready_and_wait();

    for (_client, server, full) in &all {
        server.set_nonblocking(true).expect("FIONBIO");
        let (mut byte, mut bytes, mut came): ([u8; 1], _, _) = ([0], vec![0; 1 << 16], Vec::new());
        until("all of it", || {
            // Who reads on loses it.
            if byte == [0] {
                let _ = recv(server, &mut byte[..], RecvFlags::OOB);
            }
            if let Ok(len) = (&*server).read(&mut bytes) {
                came.extend_from_slice(&bytes[..len]);
            }
            came.len() >= full + 12
        });
        check_eq!(&byte, b"!", "the byte out of band");
        check_eq!(came.len(), full + 12, "what came");
        check!(came[..*full].iter().all(|&byte| byte == b'a'), "what was there first");
        check_eq!(&came[*full..], b"beforebehind", "what came before it and behind");
    }
}
