//! Processes that have asked to be told of messages: by a signal with a value, by a netlink socket as
//! the C library does, and by nothing.
//!
//! Verified: nobody else can ask; who has asked is told of the first message, and only of that.
//! CRIU: refuses it.

use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socket_with};

use crate::context::until;
use crate::sys::{self, Queue, queue_name, unlink_queue};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).faults().missing(sys::no_queues);

const VALUE: usize = 0x1234_5678_9abc;

fn run(cx: &mut Context) {
    sys::block(sys::sigset(&[libc::SIGUSR1]));
    let names = ["signal", "socket", "nothing"].map(queue_name);
    let queues = names.each_ref().map(|name| Queue::create(name, 0, (2, 8)).expect("mq_open"));
    let [signal, socket, nothing] = &queues;
    // Nobody can be told by a name that is lost.
    unlink_queue(&names[1]).expect("mq_unlink");
    let child = cx.fork(|cx| {
        signal.notify(libc::SIGEV_SIGNAL, libc::SIGUSR1, VALUE).expect("mq_notify");
        cx.arrive(sys::own_pid());
        cx.wait_go();
        let mut info = None;
        until("a signal", || {
            info = sys::take_signal(sys::sigset(&[libc::SIGUSR1]));
            info.is_some()
        });
        let info = info.expect("it has come");
        check_eq!(info.value, VALUE, "value of the signal");
        check_eq!(info.code, libc::SI_MESGQ, "why it was sent");
        signal.notify(libc::SIGEV_SIGNAL, libc::SIGUSR1, VALUE).expect("mq_notify again");
    });
    cx.await_arrival(child);
    let flags = SocketFlags::CLOEXEC;
    let ear = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None).expect("socket");
    let cookie: [u8; 32] = std::array::from_fn(|byte| byte as u8 + 1);
    let at = cookie.as_ptr().expose_provenance();
    socket.notify(libc::SIGEV_THREAD, ear.as_raw_fd(), at).expect("mq_notify");
    nothing.notify(libc::SIGEV_NONE, 0, 0).expect("mq_notify");

    cx.ready_and_wait();

    for queue in &queues {
        let busy = queue.notify(libc::SIGEV_NONE, 0, 0).map_err(|error| error.raw_os_error());
        check_eq!(busy, Err(Some(libc::EBUSY)), "nobody else can ask");
    }
    let mut told = [0; 64];
    let mut hear =
        || recv(&ear, &mut told, RecvFlags::DONTWAIT).map(|(len, _)| told[..len].to_vec());
    check!(hear().is_err(), "nobody is told of anything before a message comes");
    for queue in &queues {
        queue.send(b"message", 0).expect("mq_send");
    }
    // The last byte tells why.
    let mut expected = cookie;
    expected[31] = 1;
    check_eq!(hear().expect("recv"), expected, "what the socket was sent");
    cx.reap(child);
    // All three are free: who was told of a message has to ask again, and the child has ended.
    for queue in &queues {
        queue.receive().expect("mq_receive");
        queue.notify(libc::SIGEV_NONE, 0, 0).expect("mq_notify");
    }
    for name in [&names[0], &names[2]] {
        unlink_queue(name).expect("mq_unlink");
    }
}
