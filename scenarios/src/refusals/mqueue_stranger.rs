//! A message queue without a name that a process outside of the tree has open as well: a restored one
//! would be another.
//!
//! Verified: the dump is refused, naming process, descriptor and kind; the target goes on, and gets
//! what the stranger sends.
//! CRIU: knows no message queues.

use std::os::fd::{IntoRawFd, OwnedFd};

use rustix::process::{Pid, test_kill_process};

use super::at_42;
use crate::context::until;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused("message queue").missing(sys::no_queues);

fn run(cx: &mut Context) {
    let name = sys::queue_name("stranger");
    let queue = sys::Queue::create(&name, libc::O_NONBLOCK, (2, 16)).expect("mq_open");
    let third = sys::Queue::open(&name, libc::O_WRONLY).expect("mq_open");
    sys::unlink_queue(&name).expect("mq_unlink");
    at_42(OwnedFd::from(queue).into_raw_fd());
    let root = Pid::from_raw(sys::own_pid()).expect("a pid");
    cx.stranger(|cx| {
        let third = third;
        sys::close(42);
        cx.publish("stranger", &sys::gettid().to_string());
        crate::context::until_forever(|| cx.gone() || test_kill_process(root).is_err());
        // The root may have ended.
        let _ = third.send(b"from outside", 1);
    });
    until("the stranger", || cx.path("stranger").exists());

    cx.ready_and_wait();

    let mut room = [0_u8; 16];
    // SAFETY: the room lives over the call, and is as long as a message of the queue can be.
    let mut receive =
        || unsafe { libc::mq_receive(42, room.as_mut_ptr().cast(), 16, std::ptr::null_mut()) };
    until("a message", || receive() == 12);
    check_eq!(&room[..12], b"from outside", "what the stranger has sent");
}
