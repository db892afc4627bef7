//! Children in an order that is not that of their pids: some have memory in common with their
//! parent, some run a program, some have ended.
//!
//! Verified: `wait(2)` for any of them gets those that have ended in the order in which they were
//! made, and the others, which end later, likewise.
//! CRIU: makes them in another order.

use std::io::{PipeReader, PipeWriter, Read};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{WaitOptions, wait};

use crate::sys::Clone3;
use crate::{Context, Scenario, Users, sys};

/// `clone3` with `set_tid` takes a capability.
pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).users(Users::Root);

/// What a child does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    /// It has ended when the checkpoint comes.
    Over,
    /// It ends afterwards, and has the parent's memory until then.
    Copy,
    /// It ends afterwards, and runs a program until then.
    Program,
}

const CHILDREN: [(i32, Life); 7] = [
    (905, Life::Over),
    (903, Life::Copy),
    (907, Life::Program),
    (902, Life::Over),
    (906, Life::Over),
    (901, Life::Program),
    (904, Life::Copy),
];

fn of(over: bool) -> Vec<i32> {
    let those = CHILDREN.iter().filter(|(_, life)| (*life == Life::Over) == over);
    those.map(|&(pid, _)| pid).collect()
}

fn live(cx: &Context, life: Life, (input, end): (&mut PipeReader, &PipeWriter)) {
    match life {
        Life::Over => sys::exit(0),
        Life::Copy => {
            // Of this process; the root has its own.
            sys::close(end.as_raw_fd());
            cx.arrive(sys::gettid());
            check_eq!(input.read(&mut [0]).ok(), Some(0), "bytes read");
        }
        Life::Program => {
            sys::dup2(input.as_raw_fd(), 0);
            panic!("{}", Command::new("cat").exec());
        }
    }
}

fn next() -> Option<i32> {
    let (pid, _) = wait(WaitOptions::NOHANG).ok().flatten()?;
    Some(pid.as_raw_nonzero().get())
}

fn run(cx: &mut Context) {
    // Children go on until it is closed.
    let (mut input, end) = std::io::pipe().expect("pipe");
    for (pid, life) in CHILDREN {
        let ask = Clone3 { pid, exit_signal: libc::SIGCHLD, ..Clone3::default() };
        if sys::clone3(&ask).expect("clone3 with set_tid") == 0 {
            cx.live_as_child(|cx| live(cx, life, (&mut input, &end)));
        }
        match life {
            Life::Over => cx.await_state(pid, 'Z'),
            Life::Copy => cx.await_arrival(pid),
            Life::Program => crate::context::until("the program", || {
                std::fs::read_to_string(format!("/proc/{pid}/comm"))
                    .is_ok_and(|name| name == "cat\n")
            }),
        }
    }

    cx.ready_and_wait();

    let ended: Vec<i32> = std::iter::from_fn(next).take(of(true).len()).collect();
    check_eq!(ended, of(true), "who had ended, as they are waited for");
    drop(end);
    for pid in of(false) {
        cx.await_state(pid, 'Z');
    }
    let ended: Vec<i32> = std::iter::from_fn(next).collect();
    check_eq!(ended, of(false), "the others");
}
