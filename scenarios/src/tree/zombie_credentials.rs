//! Zombies that had given up privileges, changed their scheduling and their names before they ended.
//!
//! Verified: what their parent can see of them: the real user id that `waitid` gives, ids, groups and
//! capabilities in `status`, nice value, policy and processors.
//! CRIU: makes all of them root's, with a nice value of 0.

use std::fs;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::{Context, Scenario, Users, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).users(Users::Root);

/// What `/proc` tells of a process that has ended.
fn seen(pid: i32) -> Vec<String> {
    let mut seen = sys::status_of(&pid.to_string(), &sys::IDENTITY);
    seen.extend(sys::status_of(&pid.to_string(), &["Name", "Cpus_allowed"]));
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    // Priority, nice value, real-time priority and policy, which are numbers 18, 19, 40 and 41.
    let fields: Vec<&str> = fields.split_whitespace().collect();
    seen.extend([18, 19, 40, 41].map(|number| fields[number - 3].to_owned()));
    seen
}

fn become_user(uid: [u32; 3], gid: [u32; 3]) {
    let groups = [7001, 7004];
    // SAFETY: `groups` has the stated length; the rest are plain numbers.
    let results = unsafe {
        [
            libc::setgroups(groups.len(), groups.as_ptr()),
            libc::setresgid(gid[0], gid[1], gid[2]),
            libc::setresuid(uid[0], uid[1], uid[2]),
        ]
    };
    check_eq!(results, [0; 3], "setting the ids");
}

fn run(cx: &mut Context) {
    let nice = cx.fork(|_| {
        // SAFETY: plain numbers, and a name that ends in NUL.
        let results = unsafe {
            [
                libc::setpriority(libc::PRIO_PROCESS, 0, 7),
                libc::prctl(libc::PR_SET_NAME, c"formerly".as_ptr()),
                libc::prctl(libc::PR_CAPBSET_DROP, 21),
            ]
        };
        check_eq!(results, [0; 3], "nice value, name and capability");
        become_user([101, 102, 103], [201, 202, 203]);
        sys::no_new_privs();
        sys::exit(3);
    });
    let batch = cx.fork(|_| {
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: the parameters live over the call.
        let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
        check_eq!(set, 0, "the policy");
        let mut first = CpuSet::new();
        first.set(0);
        sched_setaffinity(None, &first).expect("sched_setaffinity");
        // The effective user is root still, with all capabilities.
        become_user([301, 0, 302], [401, 402, 402]);
        sys::kill(sys::own_pid(), libc::SIGKILL);
    });
    let plain = cx.fork(|_| sys::exit(0));
    let zombies = [
        (nice, 101, (libc::CLD_EXITED, 3)),
        (batch, 301, (libc::CLD_KILLED, libc::SIGKILL)),
        (plain, 0, (libc::CLD_EXITED, 0)),
    ];
    zombies.iter().for_each(|&(zombie, ..)| cx.await_state(zombie, 'Z'));
    let before = zombies.map(|(zombie, ..)| seen(zombie));

    cx.ready_and_wait();

    for ((zombie, uid, end), before) in zombies.into_iter().zip(before) {
        check_eq!(seen(zombie), before, "what is to be seen of {zombie}");
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        check_eq!(sys::wait_user(zombie, flags).ok(), Some(uid), "user of {zombie}");
        let flags = libc::WEXITED | libc::WNOHANG;
        check_eq!(sys::wait_siginfo(zombie, flags).ok(), Some(end), "end of {zombie}");
    }
}
