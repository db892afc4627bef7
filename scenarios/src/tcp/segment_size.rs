//! Connections with long segments.
//!
//! Verified: that segments are about as long as they were, and that much needs few of them.
//! CRIU: has segments of 536 bytes from then on.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::pair::{OPTIONS, Way, connected, option};
use crate::inet::place::option_into;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).options(OPTIONS);

const SEGMENT: (i32, i32) = (libc::IPPROTO_TCP, libc::TCP_MAXSEG);
const INFO: (i32, i32) = (libc::IPPROTO_TCP, libc::TCP_INFO);
const MUCH: usize = 1 << 20;

/// How long they are, in bytes.
fn segment(socket: &TcpStream) -> u32 {
    let value = option(socket, SEGMENT).expect("TCP_MAXSEG");
    u32::from_ne_bytes(*value.first_chunk().expect("a number"))
}

/// How many with bytes in them were sent: `tcpi_data_segs_out`.
fn sent(socket: &TcpStream) -> u32 {
    let mut value = vec![0; 160];
    option_into(socket, INFO, &mut value).expect("TCP_INFO");
    u32::from_ne_bytes(*value[156..].first_chunk().expect("a number"))
}

/// Sends much, and says how many segments that took.
fn send(one: &TcpStream, other: &TcpStream) -> u32 {
    let before = sent(one);
    std::thread::scope(|scope| {
        scope.spawn(|| (&mut &*one).write_all(&vec![7; MUCH]).expect("write"));
        (&mut &*other).read_exact(&mut vec![0; MUCH]).expect("read");
    });
    sent(one) - before
}

fn run(cx: &mut Context) {
    let all = Way::ALL.map(|way| connected(cx, way, way as u16));
    let before: Vec<_> = all.iter().map(|(_, one, other)| [segment(one), segment(other)]).collect();
    for (_, one, other) in &all {
        check!(send(one, other) < 500, "few segments");
    }

    cx.ready_and_wait();

    for ((_, one, other), before) in all.iter().zip(before) {
        let now = [segment(one), segment(other)];
        // The kernel takes no more than 32767 bytes from anybody.
        let long = |now: u32, before: u32| now >= before.min(32_767) - 64;
        check!(long(now[0], before[0]) && long(now[1], before[1]), "{before:?} are {now:?} now");
        let segments = [send(one, other), send(other, one)];
        check!(segments.iter().all(|&sent| sent < 500), "{segments:?} segments");
    }
}
