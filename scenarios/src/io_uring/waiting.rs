//! Requests that wait: for an event, for each of many that were told already and not, for connections, for
//! bytes of a socket and a pipe, for a time that does not come; in rings that one task submits to as well, and of another thread.
//!
//! Verified: nothing completes by itself, and what happens is told once and in its order.
//! CRIU: refuses.

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::write;
use rustix::pipe::pipe;

use crate::sys::io_uring::{
    ACCEPT, CQE32, Completion, DEFER_TASKRUN, POLL_ADD, READ, RECV, Request, Ring, SINGLE_ISSUER,
    TIMEOUT, TIMEOUT_REMOVE,
};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).faults().missing(super::missing);

/// `IORING_CQE_F_MORE`, and what asks for more than one: `IORING_POLL_ADD_MULTI` and
/// `IORING_ACCEPT_MULTISHOT`.
const MORE: u32 = 2;
const MULTI: u32 = 1;

struct Waiting {
    ring: Ring,
    quiet: OwnedFd,
    told: OwnedFd,
    pipe: OwnedFd,
    _reader: OwnedFd,
    _socket: UnixStream,
    peer: UnixStream,
    listener: TcpListener,
    buffers: &'static mut [[u8; 16]; 2],
    counts: [u32; 6],
}

fn on(operation: u8, file: BorrowedFd<'_>, data: u64) -> Request {
    Request { operation, fd: file.as_raw_fd(), data, ..Request::default() }
}

impl Waiting {
    fn new(flags: u32) -> Self {
        let ring = Ring::setup(8, 0, flags).expect("io_uring_setup");
        (0..20).for_each(|data| ring.round(data));
        let quiet = eventfd(0, EventfdFlags::empty()).expect("eventfd");
        let told = eventfd(1, EventfdFlags::empty()).expect("eventfd");
        let (reader, pipe) = pipe().expect("pipe");
        let (socket, peer) = UnixStream::pair().expect("socketpair");
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let buffers = Box::leak(Box::new([[0; 16]; 2]));
        let [first, second] = buffers.each_mut().map(|buffer| buffer.as_mut_ptr() as u64);
        let poll = Request { operation_flags: libc::POLLIN as u32, ..Request::default() };
        let time = [3600_u64, 0];
        let requests = [
            Request { operation_flags: poll.operation_flags, ..on(POLL_ADD, quiet.as_fd(), 1) },
            Request {
                operation_flags: poll.operation_flags,
                len: MULTI,
                ..on(POLL_ADD, told.as_fd(), 2)
            },
            Request { priority: MULTI as u16, ..on(ACCEPT, listener.as_fd(), 3) },
            Request { address: first, len: 16, ..on(RECV, socket.as_fd(), 4) },
            Request { address: second, len: 16, offset: u64::MAX, ..on(READ, reader.as_fd(), 5) },
            Request {
                operation: TIMEOUT,
                address: time.as_ptr() as u64,
                len: 1,
                data: 6,
                ..Request::default()
            },
        ];
        requests.iter().for_each(|request| ring.push(request));
        check_eq!(ring.enter(6, 1).ok(), Some(6), "requests taken");
        let expected = Completion { data: 2, result: libc::POLLIN.into(), flags: MORE };
        check_eq!(ring.next(), Some(expected), "what is there already");
        let (counts, (_reader, _socket)) = (ring.counts(), (reader, socket));
        Self { ring, quiet, told, pipe, _reader, _socket, peer, listener, buffers, counts }
    }

    #[track_caller]
    fn expect(&self, data: u64, result: Option<i32>, flags: u32) {
        check_eq!(self.ring.enter(0, 1).ok(), Some(0), "the wait");
        let next = self.ring.next();
        let result = result.or(next.map(|it| it.result)).unwrap_or_default();
        check_eq!(next, Some(Completion { data, result, flags }), "completion");
        check!(result >= 0, "{data} fails with {result}");
        self.nothing();
    }

    #[track_caller]
    fn nothing(&self) {
        check_eq!(self.ring.enter(0, 0).ok(), Some(0), "a look");
        check_eq!(self.ring.next(), None, "a completion of nothing");
    }

    fn verify(self) {
        let one = 1_u64.to_ne_bytes();
        check_eq!(self.ring.counts(), self.counts, "heads and tails");
        self.nothing();
        let removed =
            Request { operation: TIMEOUT_REMOVE, address: 6, data: 7, ..Request::default() };
        self.ring.push(&removed);
        check_eq!(self.ring.enter(1, 2).ok(), Some(1), "requests taken");
        let mut both =
            [self.ring.next(), self.ring.next()].map(|it| it.map(|it| (it.data, it.result)));
        both.sort_unstable();
        check_eq!(both, [Some((6, -libc::ECANCELED)), Some((7, 0))], "a timeout, and its removal");
        let input = Some(libc::POLLIN.into());
        for _ in 0..2 {
            check_eq!(write(&self.told, &one), Ok(8), "write");
            self.expect(2, input, MORE);
        }
        check_eq!(write(&self.quiet, &one), Ok(8), "write");
        self.expect(1, input, 0);
        check_eq!(write(&self.peer, b"to a socket"), Ok(11), "write");
        self.expect(4, Some(11), 0);
        check_eq!(write(&self.pipe, b"to a pipe"), Ok(9), "write");
        self.expect(5, Some(9), 0);
        let [first, second] = &*self.buffers;
        check_eq!((&first[..11], &second[..9]), (&b"to a socket"[..], &b"to a pipe"[..]), "bytes");
        let address = self.listener.local_addr().expect("getsockname");
        for _ in 0..2 {
            let _connection = TcpStream::connect(address).expect("connect");
            self.expect(3, None, MORE);
        }
        (0..20).for_each(|data| self.ring.round(data));
    }
}

fn run(cx: &mut Context) {
    let (thread, _) = cx.thread(|cx| {
        let waiting = Waiting::new(SINGLE_ISSUER | DEFER_TASKRUN);
        cx.arrive(crate::sys::gettid());
        cx.wait_go();
        waiting.verify();
    });
    let all = [0, SINGLE_ISSUER, CQE32].map(Waiting::new);

    cx.ready_and_wait();

    all.into_iter().for_each(Waiting::verify);
    thread.join().expect("the thread does not panic");
}
