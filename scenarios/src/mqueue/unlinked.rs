//! Message queues that have lost their names, one of which another queue has now.
//!
//! Verified: messages of each, that both descriptions of one are on the same queue; that the name
//! leads to the other one still.
//! CRIU: refuses it.

use std::os::fd::AsFd;

use rustix::fs::fstat;

use crate::sys::{self, Queue, queue_name, unlink_queue};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .faults()
    .missing(sys::no_queues)
    .differs(&[("*/fd/*/link", "the name is another queue's now")]);

fn run(cx: &mut Context) {
    let name = queue_name("lost");
    let lost = Queue::create(&name, 0, (4, 64)).expect("mq_open");
    let reader = Queue::open(&name, libc::O_RDONLY | libc::O_NONBLOCK).expect("mq_open");
    unlink_queue(&name).expect("mq_unlink");
    let other = Queue::create(&name, 0, (2, 32)).expect("mq_open");
    let nameless = Queue::create(&queue_name("nameless"), libc::O_NONBLOCK, (2, 16));
    let nameless = nameless.expect("mq_open");
    unlink_queue(&queue_name("nameless")).expect("mq_unlink");
    for number in 0..3_u8 {
        lost.send(&[number; 64], number.into()).expect("mq_send");
    }
    other.send(b"other", 9).expect("mq_send");
    let all = [&lost, &reader, &other, &nameless];
    let stat = |queue: &Queue| {
        let stat = fstat(queue.as_fd()).expect("fstat");
        (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_nlink)
    };
    let before = all.map(|queue| (queue.attributes(), stat(queue)));

    cx.ready_and_wait();

    check_eq!(all.map(|queue| (queue.attributes(), stat(queue))), before, "attributes");
    lost.send(b"new", 7).expect("mq_send");
    check_eq!(reader.receive().expect("mq_receive"), (b"new".to_vec(), 7), "what was sent");
    for number in (0..3_u8).rev() {
        let expected = (vec![number; 64], number.into());
        check_eq!(reader.receive().expect("mq_receive"), expected, "what was there");
    }
    check!(reader.receive().is_err(), "there is no more");
    check!(nameless.receive().is_err(), "the other nameless one is empty");
    let named = Queue::open(&name, libc::O_RDONLY).expect("mq_open");
    check_eq!(named.receive().expect("mq_receive"), (b"other".to_vec(), 9), "by the name");
    check!(Queue::open(&queue_name("nameless"), 0).is_err(), "what has no name has none");
    unlink_queue(&name).expect("mq_unlink");
}
