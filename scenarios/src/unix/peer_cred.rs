//! Who is on the other side (`SO_PEERCRED`): of pairs, of who connected, of who listened.
//!
//! Verified: pids and ids of the processes that made the calls, one of which has ended.
//! CRIU: restores its own pids.

use rustix::event::PollFlags;

use super::talk::{
    STREAM, accept, connected, hear, hidden, listening, pair, peer_cred, ready, send,
};

use crate::context::until;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let address = hidden(cx, "cred");
    let listener = listening(STREAM, &address, 5);
    let (one, other) = pair(STREAM);
    let child = cx.fork(|cx| {
        let client = connected(STREAM, &address);
        cx.arrive(sys::gettid());
        cx.wait_go();
        until("the parent's word", || ready(&client).contains(PollFlags::IN));
        hear(&client, 100, b"hello", "from the parent");
        check_eq!(peer_cred(&client)[0], sys::parent(), "who listened");
    });
    cx.await_arrival(child);
    let accepted = accept(&listener).expect("accept");
    let gone = cx.fork(|_| {
        let client = connected(STREAM, &address);
        send(&client, b"bye", &[]);
    });
    cx.reap(gone);
    let left = accept(&listener).expect("accept");
    let sockets = [&one, &other, &accepted, &left];
    let before = sockets.map(peer_cred);
    check_eq!([before[2][0], before[3][0]], [child, gone], "pids at first");

    cx.ready_and_wait();

    check_eq!(sockets.map(peer_cred), before, "credentials of peers");
    hear(&left, 100, b"bye", "from who has ended");
    send(&accepted, b"hello", &[]);
    cx.reap(child);
}
