//! Transfers that have moved a part of what they were asked to, and wait with the rest: `write` and
//! `writev` to a pipe, `send` to a stream socket, `recv` with MSG_WAITALL, `recvmmsg`.
//!
//! A stop of any kind makes the kernel return what has been moved, as SIGSTOP and SIGCONT do without any
//! checkpoint: a short count, which these calls may give at any time, and not an error.
//!
//! Verified: the count is exactly what was moved, be it all or a part: no byte is lost or comes twice;
//! a program that goes on with the rest, as it has to, gets all of it through.
//! CRIU: the same; but where a program is left running, the next call on the socket fails after
//! `recvmmsg`, by an error that there is not (512), as it does after SIGSTOP and SIGCONT.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread::JoinHandle;

use rustix::io::IoSlice;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use rustix::pipe::pipe;

use crate::context::until;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// More than any of these holds.
const LEN: usize = 600_000;

/// Bytes of which no page is like another.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at * 31) ^ (at >> 9)) as u8).collect()
}

type Put = fn(&OwnedFd, &[u8]) -> rustix::io::Result<usize>;

fn in_three(to: &OwnedFd, bytes: &[u8]) -> rustix::io::Result<usize> {
    let third = bytes.len() / 3;
    let (first, rest) = bytes.split_at(third);
    let (second, last) = rest.split_at(third);
    rustix::io::writev(to, &[first, second, last].map(IoSlice::new))
}

fn stream() -> (OwnedFd, OwnedFd) {
    pair(SocketType::STREAM)
}

fn pair(kind: SocketType) -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).expect("socketpair")
}

fn pipe_ends() -> (OwnedFd, OwnedFd) {
    pipe().expect("pipe")
}

/// How many bytes wait to be read.
fn waiting(file: &OwnedFd) -> u64 {
    rustix::io::ioctl_fionread(file).expect("FIONREAD")
}

/// Somebody who writes, and who reads what is written.
struct Writer {
    call: &'static str,
    thread: JoinHandle<usize>,
    reader: OwnedFd,
    goes_on: bool,
}

/// One that writes all of it, if it is to go on after a short count, and tells what the first call has
/// moved.
fn writer(
    cx: &Context,
    (call, number): (&'static str, libc::c_long),
    (reader, writer): (OwnedFd, OwnedFd),
    put: Put,
    goes_on: bool,
) -> Writer {
    let (thread, tid) = cx.thread(move |cx| {
        cx.arrive(crate::sys::gettid());
        let bytes = bytes(LEN);
        let first = put(&writer, &bytes).unwrap_or(0);
        let mut done = first;
        while goes_on && done < LEN {
            match put(&writer, &bytes[done..]) {
                Ok(more @ 1..) => done += more,
                end => {
                    check!(false, "{call} at {done}: {end:?}");
                    break;
                }
            }
        }
        cx.wait_go();
        drop(writer);
        first
    });
    cx.await_blocked(tid, number);
    check!(waiting(&reader) > 0, "{call} has moved nothing");
    Writer { call, thread, reader, goes_on }
}

impl Writer {
    fn verify(self) {
        let Self { call, thread, reader, goes_on } = self;
        let mut got = vec![0; LEN + 1];
        let mut total = 0;
        loop {
            match rustix::io::read(&reader, &mut got[total..]) {
                Ok(0) => break,
                Ok(more) => total += more,
                Err(errno) => return check!(false, "{call}: reading at {total}: {errno}"),
            }
        }
        let first = thread.join().expect("the thread does not panic");
        check!(first > 0, "{call} has failed");
        check_eq!(total, if goes_on { LEN } else { first }, "{call}: bytes that came");
        check!(got[..total] == bytes(LEN)[..total], "{call}: other bytes came");
    }
}

/// How much of something is there before the checkpoint, and how much is asked for.
const HAS: usize = 1000;
const WANTS: usize = 3000;

fn receiver(cx: &Context, (own, peer): (OwnedFd, OwnedFd)) -> (JoinHandle<Vec<u8>>, OwnedFd) {
    let all = bytes(WANTS);
    send(&peer, &all[..HAS], SendFlags::empty()).expect("send");
    let probe = rustix::io::dup(&own).expect("dup");
    let (thread, tid) = cx.thread(move |cx| {
        cx.arrive(crate::sys::gettid());
        let mut got = vec![0; WANTS];
        let mut total = 0;
        while total < WANTS {
            match recv(&own, &mut got[total..], RecvFlags::WAITALL) {
                Ok((more @ 1.., _)) => total += more,
                end => {
                    check!(false, "recv at {total}: {end:?}");
                    break;
                }
            }
        }
        cx.wait_go();
        got
    });
    until("recv to take a part", || waiting(&probe) == 0);
    cx.await_blocked(tid, libc::SYS_recvfrom);
    (thread, peer)
}

/// How many messages are asked for at once, of which one is there.
const MESSAGES: usize = 4;

/// Up to so many messages of one byte.
fn receive_messages(file: impl AsFd, wanted: usize) -> Result<Vec<u8>, i32> {
    let mut bytes = [0_u8; MESSAGES];
    let mut places = bytes
        .each_mut()
        .map(|byte| libc::iovec { iov_base: std::ptr::from_mut(byte).cast(), iov_len: 1 });
    let mut headers = places.each_mut().map(|place| {
        // SAFETY: all zeros is a `mmsghdr`.
        let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        header.msg_hdr.msg_iov = place;
        header.msg_hdr.msg_iovlen = 1;
        header
    });
    let (fd, first) = (file.as_fd().as_raw_fd(), headers.as_mut_ptr());
    // SAFETY: there are as many headers as stated, each with one place; all outlive the call.
    let got = unsafe { libc::recvmmsg(fd, first, wanted as u32, 0, std::ptr::null_mut()) };
    match usize::try_from(got) {
        Ok(got) => Ok(bytes[..got].to_vec()),
        Err(_) => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
    }
}

fn message_receiver(
    cx: &Context,
    (own, peer): (OwnedFd, OwnedFd),
) -> (JoinHandle<Vec<u8>>, OwnedFd) {
    send(&peer, &[0], SendFlags::empty()).expect("send");
    let probe = rustix::io::dup(&own).expect("dup");
    let (thread, tid) = cx.thread(move |cx| {
        cx.arrive(crate::sys::gettid());
        let mut got = Vec::new();
        while got.len() < MESSAGES {
            match receive_messages(&own, MESSAGES - got.len()) {
                Ok(more) => got.extend(more),
                Err(errno) => {
                    check!(false, "recvmmsg after {} messages: error {errno}", got.len());
                    break;
                }
            }
        }
        cx.wait_go();
        got
    });
    until("recvmmsg to take a message", || waiting(&probe) == 0);
    cx.await_blocked(tid, libc::SYS_recvmmsg);
    (thread, peer)
}

fn run(cx: &mut Context) {
    let write: Put = |to, bytes| rustix::io::write(to, bytes);
    let send_all: Put = |to, bytes| send(to, bytes, SendFlags::empty());
    let mut writers = Vec::new();
    for goes_on in [false, true] {
        let calls: [(_, _, fn() -> _, Put); 3] = [
            ("write", libc::SYS_write, pipe_ends, write),
            ("writev", libc::SYS_writev, pipe_ends, in_three),
            ("send", libc::SYS_sendto, stream, send_all),
        ];
        for (call, number, ends, put) in calls {
            writers.push(writer(cx, (call, number), ends(), put, goes_on));
        }
    }
    let (receiver, to_receiver) = receiver(cx, stream());
    let (messages, to_messages) = message_receiver(cx, pair(SocketType::DGRAM));

    cx.ready_and_wait();

    let rest = &bytes(WANTS)[HAS..];
    check_eq!(send(&to_receiver, rest, SendFlags::empty()), Ok(rest.len()), "sending the rest");
    for number in 1..MESSAGES {
        let message = [number as u8];
        check_eq!(send(&to_messages, &message, SendFlags::empty()), Ok(1), "message {number}");
    }
    writers.into_iter().for_each(Writer::verify);
    let got = receiver.join().expect("the thread does not panic");
    check!(got == bytes(WANTS), "recv has got other bytes");
    let got = messages.join().expect("the thread does not panic");
    check_eq!(got, [0, 1, 2, 3], "messages");
}
