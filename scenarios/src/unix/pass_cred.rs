//! Messages that tell who sent them (`SO_PASSCRED`).
//!
//! Verified: process and ids of each sender: two processes, one of which has ended.
//! CRIU: refuses such messages.

use super::talk::{DATAGRAM, STREAM, option, pair, receive, send, set_option};

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let pairs = [pair(STREAM), pair(DATAGRAM)];
    let mut senders = Vec::new();
    for (one, other) in &pairs {
        set_option(other, libc::SO_PASSCRED, 1);
        send(one, b"parent", &[]);
    }
    let child = cx.fork(|_| pairs.iter().for_each(|(one, _)| send(one, b"child", &[])));
    cx.reap(child);
    senders.push((sys::own_pid(), &b"parent"[..]));
    senders.push((child, &b"child"[..]));

    cx.ready_and_wait();

    for (one, other) in &pairs {
        check_eq!(option(other, libc::SO_PASSCRED), 1, "the option");
        for (pid, text) in &senders {
            let got = receive(other, 100, rustix::net::RecvFlags::empty());
            let Ok(got) = got else { return check!(false, "{pid} is not heard of") };
            check_eq!(got.bytes, *text, "what {pid} sent");
            let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
            check_eq!(got.from, Some((*pid, uid.as_raw(), gid.as_raw())), "who sent it");
        }
        send(one, b"again", &[]);
        let got = receive(other, 100, rustix::net::RecvFlags::empty());
        check_eq!(
            got.map(|got| got.from.map(|from| from.0)),
            Ok(Some(sys::own_pid())),
            "who sends"
        );
    }
}
