//! Connections of which one side has said that nothing more comes from it, with bytes before that
//! which were not read, or both have.
//!
//! Verified: the states, every byte, the end behind them, and that the other direction goes on.
//! CRIU: works.

use std::io::{Read, Write};
use std::net::Shutdown;

use super::pair::{OPTIONS, Way, connected, state};
use crate::context::until;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(OPTIONS).dump_faults();

const FIN_WAIT2: u8 = 5;
const CLOSE: u8 = 7;
const CLOSE_WAIT: u8 = 8;

fn run(cx: &mut Context) {
    let mut half = Way::ALL.map(|way| connected(cx, way, way as u16));
    for (_, client, _) in &mut half {
        client.write_all(b"the last").expect("write");
        client.shutdown(Shutdown::Write).expect("shutdown");
        until("the end to be acknowledged", || state(&*client) == Some(FIN_WAIT2));
    }
    let (_, mut one, mut other) = connected(cx, Way::V4, 3);
    one.shutdown(Shutdown::Write).expect("shutdown");
    other.shutdown(Shutdown::Write).expect("shutdown");
    until("both to have ended", || state(&other) == Some(CLOSE));

    cx.ready_and_wait();

    let mut bytes = Vec::new();
    for (_, client, server) in &mut half {
        check_eq!(state(&*client), Some(FIN_WAIT2), "who has ended");
        check_eq!(state(&*server), Some(CLOSE_WAIT), "who was told");
        bytes.clear();
        server.read_to_end(&mut bytes).expect("read");
        check_eq!(bytes, b"the last", "what came before the end");
        server.write_all(b"and back").expect("write");
        server.shutdown(Shutdown::Write).expect("shutdown");
        bytes.clear();
        client.read_to_end(&mut bytes).expect("read");
        check_eq!(bytes, b"and back", "what came back");
    }
    bytes.clear();
    check_eq!(other.read_to_end(&mut bytes).ok(), Some(0), "reading when all has ended");
    check_eq!(one.read(&mut [0; 8]).ok(), Some(0), "the other end");
}
