//! A stream socket that listens, with connections not yet accepted, and one that was.
//!
//! Verified: they are accepted in their order, and connected to whom they were; nothing else waits.
//! CRIU: works.

use super::talk::{SEQPACKET, STREAM, accept, connected, hidden, listening, names, talk};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn run(cx: &mut Context) {
    let sets = [(STREAM, "stream"), (SEQPACKET, "packets")].map(|(kind, name)| {
        let address = hidden(cx, name);
        let listener = listening(kind, &address, 7);
        let early = connected(kind, &address);
        let accepted = accept(&listener).expect("accept");
        let clients = [connected(kind, &address), connected(kind, &address)];
        (kind, address, listener, early, accepted, clients)
    });

    cx.ready_and_wait();

    for (kind, address, listener, early, accepted, clients) in &sets {
        talk(early, accepted);
        check_eq!(names(accepted)[0].as_ref(), Some(address), "name of the accepted one");
        check_eq!(names(early)[1].as_ref(), Some(address), "name of its peer");
        for (number, client) in clients.iter().enumerate() {
            match accept(listener) {
                Err(error) => check!(false, "accept {number}: {error}"),
                Ok(server) => talk(client, &server),
            }
        }
        check!(accept(listener).is_err(), "nobody else waits");
        let late = connected(*kind, address);
        match accept(listener) {
            Err(error) => check!(false, "accept: {error}"),
            Ok(server) => talk(&late, &server),
        }
    }
}
