//! A byte sent out of band over a stream, between others, and at the end; one that was passed over by who reads.
//!
//! Verified: it is read by MSG_OOB, and what was sent around it without it; the one is gone.
//! CRIU: loses it.

use rustix::event::PollFlags;
use rustix::net::{RecvFlags, SendFlags};

use super::talk::{STREAM, hear, option, pair, ready, receive, send, set_option, silent, talk};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let [last, between, first, in_line] = [(); 4].map(|()| pair(STREAM));
    for (pair, before, after) in [
        (&last, "abc", ""),
        (&between, "abc", "xyz"),
        (&first, "", "xyz"),
        (&in_line, "abc", "xyz"),
    ] {
        set_option(&in_line.1, libc::SO_OOBINLINE, 1);
        if !before.is_empty() {
            send(&pair.0, before.as_bytes(), &[]);
        }
        check_eq!(rustix::net::send(&pair.0, b"!", SendFlags::OOB), Ok(1), "send");
        if !after.is_empty() {
            send(&pair.0, after.as_bytes(), &[]);
        }
    }
    let passed = [pair(STREAM), pair(STREAM)];
    for ((sender, end), after) in passed.iter().zip(["", "xyz"]) {
        check_eq!(rustix::net::send(sender, b"!", SendFlags::OOB), Ok(1), "send");
        silent(end, "a byte out of band alone");
        if !after.is_empty() {
            send(sender, after.as_bytes(), &[]);
        }
    }

    cx.ready_and_wait();

    hear(&passed[1].1, 100, b"xyz", "behind the byte that was passed over");
    for (sender, end) in &passed {
        silent(end, "the byte that was passed over");
        talk(sender, end);
    }

    for ((_, end), before, after) in
        [(&last, "abc", ""), (&between, "abc", "xyz"), (&first, "", "xyz")]
    {
        check!(ready(end).contains(PollFlags::PRI), "poll tells of it");
        let got = receive(end, 1, RecvFlags::OOB).map(|got| got.bytes);
        check_eq!(got.as_deref(), Ok(&b"!"[..]), "the byte out of band");
        for part in [before, after].into_iter().filter(|part| !part.is_empty()) {
            hear(end, 100, part.as_bytes(), "what was sent around it");
        }
    }
    check_eq!(option(&in_line.1, libc::SO_OOBINLINE), 1, "the option");
    hear(&in_line.1, 100, b"abc", "in line, before it");
    hear(&in_line.1, 100, b"!xyz", "in line, from there on");
}
