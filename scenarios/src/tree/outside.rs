//! What `/proc/PID` takes from others: `oom_score_adj`, `coredump_filter`, the nice value of the
//! `autogroup` of a session.
//!
//! Verified: each of them, of two processes in two sessions.
//! CRIU: keeps `oom_score_adj`.

use std::fs;

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .differs(&[("*/oom_score", "follows from the memory in use")]);

fn values() -> [String; 3] {
    let read = |name| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    let autogroup = read("autogroup");
    let nice = autogroup.split_once(" nice ").map_or("", |(_, nice)| nice);
    [read("oom_score_adj"), read("coredump_filter"), nice.to_owned()]
}

fn set(adjustment: &str, filter: &str, nice: &str) {
    let write = |name, text| fs::write(format!("/proc/self/{name}"), text);
    write("oom_score_adj", adjustment).expect("oom_score_adj");
    write("coredump_filter", filter).expect("coredump_filter");
    // There is no such thing in a cgroup that is scheduled as a group.
    drop(write("autogroup", nice));
}

fn run(cx: &mut Context) {
    set("300", "0x7f", "5");
    let set_up = values();
    let child = cx.fork(|cx| {
        rustix::process::setsid().expect("setsid");
        set("400", "0x1", "9");
        let set_up = values();
        cx.arrive(sys::gettid());
        cx.wait_go();
        check_eq!(values(), set_up, "of the child");
    });
    cx.await_arrival(child);
    cx.ready_and_wait();
    check_eq!(values(), set_up, "of the root");
    cx.reap(child);
}
