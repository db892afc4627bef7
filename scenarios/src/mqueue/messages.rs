//! A message queue with messages of all priorities and lengths, open several times.
//!
//! Verified: each message with its priority, in the order of arrival; flags and sizes; owner and
//! mode; that its name leads to it; how far its status was read.
//! CRIU: refuses it.

use std::os::fd::AsFd;

use rustix::fs::{Mode, SeekFrom, fchmod, fstat, seek};

use crate::sys::{self, Queue, queue_name, unlink_queue};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).faults().missing(sys::no_queues);

/// Around what fits the first page of a message, and one more.
const LENS: [usize; 8] = [0, 1, 4047, 4048, 4049, 8136, 8137, 8192];
const PRIORITIES: [u32; 8] = [5, 0, 32767, 5, 0, 7, 5, 32767];

fn message(number: usize) -> Vec<u8> {
    (0..LENS[number]).map(|byte| (byte * 7 + number) as u8).collect()
}

fn run(cx: &mut Context) {
    let name = queue_name("messages");
    let queue = Queue::create(&name, 0, (9, 8192)).expect("mq_open");
    fchmod(queue.as_fd(), Mode::from_raw_mode(0o640)).expect("fchmod");
    let reader = Queue::open(&name, libc::O_RDONLY | libc::O_NONBLOCK).expect("mq_open");
    let writer = Queue::open(&name, libc::O_WRONLY).expect("mq_open");
    let empty_name = queue_name("empty");
    let empty = Queue::create(&empty_name, libc::O_NONBLOCK, (1, 1)).expect("mq_open");
    for (number, priority) in PRIORITIES.into_iter().enumerate() {
        writer.send(&message(number), priority).expect("mq_send");
    }
    let mut status = [0; 10];
    check_eq!(rustix::io::read(reader.as_fd(), &mut status), Ok(10), "the status of a queue");
    let stat = || {
        let stat = fstat(queue.as_fd()).expect("fstat");
        (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_nlink)
    };
    let all = [&queue, &reader, &writer, &empty];
    let before = (all.map(Queue::attributes), stat());

    cx.ready_and_wait();

    check_eq!((all.map(Queue::attributes), stat()), before, "attributes, owner and mode");
    check_eq!(seek(reader.as_fd(), SeekFrom::Current(0)), Ok(10), "place in the status");
    let again = Queue::open(&name, libc::O_RDONLY).expect("mq_open by its name");
    let inode = |queue: &Queue| fstat(queue.as_fd()).expect("fstat").st_ino;
    check_eq!(inode(&again), inode(&queue), "what its name leads to");
    check!(reader.send(b"", 0).is_err(), "who only reads cannot send");
    writer.send(b"last", 5).expect("mq_send");
    let mut order: Vec<_> = (0..LENS.len()).collect();
    order.sort_by_key(|&number| std::cmp::Reverse(PRIORITIES[number]));
    let mut expected: Vec<_> =
        order.into_iter().map(|number| (message(number), PRIORITIES[number])).collect();
    let last = expected.iter().rposition(|(_, priority)| *priority == 5).expect("there is one");
    expected.insert(last + 1, (b"last".to_vec(), 5));
    for (number, expected) in expected.into_iter().enumerate() {
        let found = reader.receive().expect("mq_receive");
        check!(found == expected, "message {number} has priority {}", found.1);
    }
    check!(reader.receive().is_err(), "there are no more messages");
    check!(empty.receive().is_err(), "the other queue is empty");
    empty.send(b"x", 1).expect("mq_send");
    check!(empty.send(b"", 1).is_err(), "the other queue is full");
    for name in [name, empty_name] {
        unlink_queue(&name).expect("mq_unlink");
    }
}
