//! A thousand connections, each with something under way.
//!
//! Verified: every one gives what it had, and to whom it had it.
//! CRIU: works.

use super::talk::{STREAM, accept, connected, hear, hidden, listening, pair, send};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const MANY: u32 = 500;

fn run(cx: &mut Context) {
    let address = hidden(cx, "many");
    let listener = listening(STREAM, &address, 5);
    let pairs: Vec<_> = (0..MANY).map(|_| pair(STREAM)).collect();
    let accepted: Vec<_> = (0..MANY)
        .map(|_| (connected(STREAM, &address), accept(&listener).expect("accept")))
        .collect();
    for (number, (one, other)) in pairs.iter().chain(&accepted).enumerate() {
        send(one, &number.to_ne_bytes(), &[]);
        send(other, &(!number).to_ne_bytes(), &[]);
    }

    cx.ready_and_wait();

    for (number, (one, other)) in pairs.iter().chain(&accepted).enumerate() {
        hear(other, 100, &number.to_ne_bytes(), "what came there");
        hear(one, 100, &(!number).to_ne_bytes(), "what came back");
    }
}
