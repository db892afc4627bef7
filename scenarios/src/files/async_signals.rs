//! Files that tell by a signal when there is something to read (`O_ASYNC`): a pipe with a signal and
//! a thread of its own, a socket, and a terminal with input that nobody has read yet.
//!
//! Verified: no signal comes that would not have come; the next byte is told of, to whom it was to be, by
//! the number that the descriptor has.
//! CRIU: works.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

use rustix::io::write;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::pipe;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use rustix::thread::gettid;

use crate::context::until;
use crate::tty::{pseudo_terminal, slave};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// How many signals there were, and about which descriptor, in which thread the last was.
static COUNT: AtomicI32 = AtomicI32::new(0);
static ABOUT: AtomicI32 = AtomicI32::new(-1);
static THREAD: AtomicI32 = AtomicI32::new(0);

extern "C" fn told(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives one; `si_fd` is behind `si_band` (`siginfo.h`), after 16 bytes.
    ABOUT.store(unsafe { info.byte_add(24).cast::<i32>().read() }, SeqCst);
    THREAD.store(gettid().as_raw_nonzero().get(), SeqCst);
    COUNT.fetch_add(1, SeqCst);
}

/// The file tells the thread or the process of that number.
fn announce(file: &OwnedFd, kind: i32, number: i32) {
    const F_SETSIG: i32 = 10;
    const F_SETOWN_EX: i32 = 15;
    let (fd, owner) = (file.as_raw_fd(), [kind, number]);
    // SAFETY: two of them take a number; the other reads the two of `struct f_owner_ex`.
    let done = unsafe {
        [
            libc::fcntl(fd, F_SETSIG, libc::SIGRTMIN() + 3),
            libc::fcntl(fd, F_SETOWN_EX, owner.as_ptr()),
            libc::fcntl(fd, libc::F_SETFL, libc::fcntl(fd, libc::F_GETFL) | libc::O_ASYNC),
        ]
    };
    check_eq!(done, [0; 3], "F_SETSIG, F_SETOWN_EX and O_ASYNC");
}

fn run(cx: &mut Context) {
    static SIBLING: AtomicI32 = AtomicI32::new(0);
    const F_OWNER_TID: i32 = 0;
    const F_OWNER_PID: i32 = 1;
    sys::handle(libc::SIGRTMIN() + 3, told, libc::SA_RESTART);
    std::thread::spawn(|| {
        SIBLING.store(gettid().as_raw_nonzero().get(), SeqCst);
        loop {
            std::thread::park();
        }
    });
    until("the thread", || SIBLING.load(SeqCst) != 0);
    let (thread, process) = (SIBLING.load(SeqCst), std::process::id() as i32);

    let (reader, writer) = pipe().expect("pipe");
    announce(&reader, F_OWNER_TID, thread);
    let (socket, peer) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None)
            .expect("socketpair");
    announce(&socket, F_OWNER_PID, process);
    let (master, path) = pseudo_terminal();
    let terminal = slave(&path);
    let mut modes = tcgetattr(&terminal).expect("tcgetattr");
    modes.make_raw();
    tcsetattr(&terminal, OptionalActions::Now, &modes).expect("tcsetattr");
    announce(&terminal, F_OWNER_PID, process);
    for (count, (file, tells)) in
        [(&writer, &reader), (&peer, &socket), (&master, &terminal)].into_iter().enumerate()
    {
        check_eq!(write(file, b"a"), Ok(1), "a byte");
        until("the signal", || COUNT.load(SeqCst) > count as i32);
        check_eq!(ABOUT.load(SeqCst), tells.as_raw_fd(), "what is ready, before");
    }

    cx.ready_and_wait();

    check_eq!(COUNT.load(SeqCst), 3, "signals so far");
    let all =
        [(&writer, &reader, Some(thread)), (&peer, &socket, None), (&master, &terminal, None)];
    for (count, (file, tells, by)) in (3..).zip(all) {
        check_eq!(write(file, b"b"), Ok(1), "another byte");
        until("the signal", || COUNT.load(SeqCst) > count);
        check_eq!(COUNT.load(SeqCst), count + 1, "signals");
        check_eq!(ABOUT.load(SeqCst), tells.as_raw_fd(), "what is ready");
        let came = THREAD.load(SeqCst);
        check!(by.is_none_or(|by| came == by), "it came to {came}, and not to {by:?}");
    }
}
