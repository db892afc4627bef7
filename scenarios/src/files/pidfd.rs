//! Pidfds of oneself, a child, a zombie and a thread, some of them in an epoll, one in flight.
//!
//! Verified: that each stands for its task; flags; that the zombie's alone is readable, and is
//! waited for by it; that a signal arrives through one.
//! CRIU: refuses those of threads.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fs::fcntl_getfl;
use rustix::net::RecvFlags;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::unix::talk;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).missing(sys::no_thread_pidfds).faults();

/// Of a thread, and not of a process.
const THREAD: u32 = libc::O_EXCL as u32;

pub(crate) fn pidfd_open(pid: i32, flags: u32) -> OwnedFd {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, flags) };
    assert!(fd >= 0, "pidfd_open: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just made it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// The line of fdinfo that tells whose it is.
pub(super) fn pid_of(fd: impl AsFd) -> String {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    let text = std::fs::read_to_string(path).expect("fdinfo");
    let line = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    line.expect("a pidfd").trim().to_owned()
}

pub(super) fn polled(fd: &OwnedFd) -> PollFlags {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("poll");
    fds[0].revents()
}

fn run(cx: &mut Context) {
    let me = std::process::id() as i32;
    let child = cx.fork(|cx| {
        cx.arrive(sys::gettid());
        cx.wait_go();
        loop {
            sys::nap(std::time::Duration::from_millis(5));
        }
    });
    cx.await_arrival(child);
    let zombie = cx.fork(|_| sys::exit(5));
    cx.await_state(zombie, 'Z');
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let (thread, tid) = cx.thread(move |cx| {
        cx.arrive(sys::gettid());
        let _ = wait.recv();
    });
    let own = pidfd_open(me, 0);
    let of_child = pidfd_open(child, libc::O_NONBLOCK as u32);
    let of_zombie = pidfd_open(zombie, 0);
    let of_thread = pidfd_open(tid, THREAD);
    let alike = own.try_clone().expect("dup");
    let watcher = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll_create1");
    for (data, fd) in [(1, &of_child), (2, &of_zombie)] {
        let data = epoll::EventData::new_u64(data);
        epoll::add(&watcher, fd, data, epoll::EventFlags::IN).expect("epoll_ctl");
    }
    let (near, far) = UnixStream::pair().expect("socketpair");
    let (near, far) = (OwnedFd::from(near), OwnedFd::from(far));
    talk::send(&near, b"p", &[of_child.as_fd()]);
    let flags = [&own, &of_child, &of_zombie, &of_thread].map(fcntl_getfl);

    cx.ready_and_wait();

    check_eq!([&own, &of_child, &of_zombie, &of_thread].map(fcntl_getfl), flags, "flags");
    let pids = [&own, &of_child, &of_zombie, &of_thread, &alike].map(pid_of);
    check_eq!(pids, [me, child, zombie, tid, me].map(|pid| pid.to_string()), "pids");
    let ready = [&own, &of_child, &of_zombie].map(polled);
    check_eq!(ready[..2], [PollFlags::empty(); 2], "that living tasks are not readable");
    check!(ready[2].contains(PollFlags::IN), "a zombie's is readable");
    let mut events = Vec::with_capacity(4);
    let none = Timespec { tv_sec: 0, tv_nsec: 0 };
    epoll::wait(&watcher, rustix::buffer::spare_capacity(&mut events), Some(&none)).expect("wait");
    check_eq!(events.iter().map(|event| event.data.u64()).collect::<Vec<_>>(), [2], "events");
    let status = waitid(WaitId::PidFd(of_zombie.as_fd()), WaitIdOptions::EXITED);
    let status = status.ok().flatten().and_then(|status| status.exit_status());
    check_eq!(status, Some(5), "waiting for the zombie");
    check_eq!(pid_of(&of_zombie), "-1", "the zombie's, then");
    let got = talk::receive(&far, 1, RecvFlags::empty());
    let received = got.map(|got| got.rights).unwrap_or_default();
    check_eq!(received.len(), 1, "descriptors in flight");
    check_eq!(pid_of(&received[0]), child.to_string(), "the one in flight");
    // SAFETY: no memory is involved.
    let sent = unsafe {
        use std::os::fd::AsRawFd;
        libc::syscall(libc::SYS_pidfd_send_signal, received[0].as_raw_fd(), libc::SIGKILL, 0, 0)
    };
    check_eq!(sent, 0, "a signal by pidfd");
    check_eq!(sys::wait_status(child), Ok(libc::SIGKILL), "the end of the child");
    drop(done);
    thread.join().expect("the thread");
    check_eq!(pid_of(&of_thread), "-1", "the thread's, then");
}
