//! A message queue of two processes: one description of both, and one of each; one process waits
//! for a message, another for room.
//!
//! Verified: who has waited goes on to wait, and gets what is sent to it; a change of flags shows by
//! the description that both have, and by no other.
//! CRIU: refuses it.

use crate::sys::{self, Queue, queue_name, unlink_queue};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).missing(sys::no_queues);

fn set_nonblocking(queue: &Queue) {
    rustix::io::ioctl_fionbio(queue, true).expect("FIONBIO");
}

fn run(cx: &mut Context) {
    let names = ["to", "from"].map(queue_name);
    let to = Queue::create(&names[0], 0, (1, 8)).expect("mq_open");
    let from = Queue::create(&names[1], 0, (1, 8)).expect("mq_open");
    from.send(b"first", 0).expect("mq_send");
    let receiver = cx.fork(|cx| {
        cx.arrive(sys::own_pid());
        check_eq!(to.receive().expect("mq_receive"), (b"go on".to_vec(), 3), "what was sent");
        cx.wait_go();
        set_nonblocking(&to);
    });
    let sender = cx.fork(|cx| {
        let own = Queue::open(&names[1], libc::O_WRONLY).expect("mq_open");
        cx.arrive(sys::own_pid());
        own.send(b"second", 0).expect("mq_send");
        cx.wait_go();
    });
    for (pid, call) in [(receiver, libc::SYS_mq_timedreceive), (sender, libc::SYS_mq_timedsend)] {
        cx.await_arrival(pid);
        cx.await_blocked(pid, call);
    }

    cx.ready_and_wait();

    for (pid, call) in [(receiver, libc::SYS_mq_timedreceive), (sender, libc::SYS_mq_timedsend)] {
        cx.await_blocked(pid, call);
    }
    to.send(b"go on", 3).expect("mq_send");
    check_eq!(from.receive().expect("mq_receive").0, b"first", "what was there");
    check_eq!(from.receive().expect("mq_receive").0, b"second", "what had to wait");
    cx.reap(receiver);
    cx.reap(sender);
    check_eq!(to.attributes()[0], i64::from(libc::O_NONBLOCK), "flags of the one of both");
    check_eq!(from.attributes()[0], 0, "flags of the other");
    for name in names {
        unlink_queue(&name).expect("mq_unlink");
    }
}
