//! How many connections may wait to be accepted (`listen(2)`).
//!
//! Verified: as many as before can connect, and no more.
//! CRIU: works.

use rustix::io::Errno;

use super::talk::{STREAM, hidden, listening, socket};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let address = hidden(cx, "backlog");
    let _listener = listening(STREAM, &address, 2);
    let connect = || {
        let socket = socket(STREAM);
        rustix::net::connect(&socket, &address).map(|()| socket)
    };
    let one = connect().expect("connect");

    cx.ready_and_wait();

    let others: Vec<_> = (0..2).map(|_| connect()).collect();
    check!(others.iter().all(Result::is_ok), "two more can wait");
    check_eq!(connect().err(), Some(Errno::AGAIN), "a fourth cannot");
    drop(one);
}
