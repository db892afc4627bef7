//! A pair of stream sockets with bytes under way in both directions.
//!
//! Verified: the bytes, at once and in parts; then bytes sent afterwards; end of file when one is closed.
//! CRIU: works.

use super::talk::{STREAM, ended, hear, pair, send, silent, talk};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn run(cx: &mut Context) {
    let (one, other) = pair(STREAM);
    let long: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
    send(&one, b"first ", &[]);
    send(&one, b"second", &[]);
    send(&other, &long, &[]);

    cx.ready_and_wait();

    hear(&other, 3, b"fir", "a part");
    hear(&other, 100, b"st second", "the rest");
    silent(&other, "after that");
    hear(&one, 200_000, &long, "many bytes");
    talk(&one, &other);
    drop(one);
    ended(&other, "after one was closed");
}
